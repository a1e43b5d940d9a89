"""The page in a real browser, on a server of its own process."""

import json
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from medzeroseg.main import main
from tests.helpers.fake_dicom import write_series
from tests.helpers.fake_inference import write_picture
from tests.helpers.identity import SECRETS

_BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
_MISSING = [name for name in ("gradio", "playwright") if find_spec(name) is None]
_MISSING += [] if _BROWSER else ["chromium (apt-get install chromium)"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(_MISSING), reason=f"missing here: {', '.join(_MISSING)}"),
]
_PATIENCE_MS = 120_000  # for one answer of a busy machine


class Server(NamedTuple):
    url: str
    folder: Path  # all temporary files of the server


@pytest.fixture(scope="module")
def server(checkpoint: Path, quick_method: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["serve", "--checkpoint", checkpoint, "--method", quick_method, "--device", "cpu", "--port", port]
    words += ["--max-upload-mb", 1]
    process = subprocess.Popen(
        [sys.executable, "-m", "medzeroseg.main", *map(str, words)],
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "listens at" in line:
                break
        assert process.poll() is None, "".join(said)
        yield Server(f"http://127.0.0.1:{port}", folder)
    finally:
        process.terminate()
        process.wait(60)
    assert process.returncode == 0
    assert not list(folder.glob("medzeroseg-serve-*"))  # nothing outlives the server


@pytest.fixture
def page(server: Server) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_BROWSER, args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(_PATIENCE_MS)
            page.asked = []
            page.on("request", lambda request: page.asked.append(request.url))
            page.goto(server.url)
            page.wait_for_selector("#segment")
            yield page
        finally:
            browser.close()


def ask(page: Any, path: Path | None, words: str) -> str:
    """Drop an image, type words, click; what the page says."""
    if path is not None:
        page.set_input_files("#image input[type=file]", str(path))
        page.wait_for_selector("#status p:has-text('Image read')")
    page.fill("#words textarea", words)
    page.evaluate("for (const old of document.querySelectorAll('#status p')) old.dataset.old = 'yes'")
    page.click("#segment")
    page.wait_for_selector("#status p:not([data-old])")
    return str(page.inner_text("#status p"))


def test_an_image_and_words_give_masks_saliency_a_table_and_downloads(server: Server, page: Any, tmp_path: Path):
    said = ask(page, write_picture(tmp_path / "picture.png", 96, 128), "heart\nleft lung")
    assert "found" in said
    page.wait_for_selector("#masks img")
    rows = page.locator("#found tbody tr").all_inner_texts()
    assert [row.split("\t")[0].strip() for row in rows] == ["1 heart", "2 left lung"]
    overlay = page.get_attribute("#masks img", "src")
    page.locator("#shown input[type=checkbox]").first.click()
    page.wait_for_function("old => document.querySelector('#masks img').src !== old", arg=overlay)
    page.get_by_role("tab", name="Saliency").click()
    page.wait_for_selector("#saliency img")
    first = page.get_attribute("#saliency img", "src")
    page.locator("#structure input[type=radio]").nth(1).click()
    page.wait_for_function("old => document.querySelector('#saliency img').src !== old", arg=first)
    links = page.locator("#files a").evaluate_all("all => all.map(one => one.href)")
    files = {url.rpartition("/")[2].partition("?")[0]: page.request.get(url).body() for url in links}
    assert set(files) >= {"mask.png", "overlay.png", "result.json"}
    assert files["mask.png"].startswith(b"\x89PNG")
    assert [label["text"] for label in json.loads(files["result.json"])["labels"]] == ["heart", "left lung"]
    # the browser asked this server alone, and the upload is gone from its disk
    assert all(url.startswith((server.url, "data:", "blob:")) for url in page.asked), page.asked
    uploaded = (tmp_path / "picture.png").read_bytes()
    kept = [path for path in server.folder.rglob("*") if path.is_file() and path.read_bytes() == uploaded]
    assert kept == []


def test_dicom_shows_no_identity(page: Any, tmp_path: Path):
    write_series(tmp_path / "s", count=1, size=48, PatientName=SECRETS[0], PatientID=SECRETS[1])
    (path,) = (tmp_path / "s").iterdir()
    assert "found" in ask(page, path, "liver")
    names = page.locator("#files a").evaluate_all("all => all.map(one => one.href)")
    assert any("segmentation.dcm" in name for name in names)
    content = page.content()
    assert not any(secret in content for secret in SECRETS)


def test_faults_are_messages(server: Server, page: Any, tmp_path: Path):
    assert "Drop an image first" in ask(page, None, "heart")
    (tmp_path / "notes.png").write_text("no picture")
    said = ask(page, tmp_path / "notes.png", "heart")
    assert "no PNG, JPEG or DICOM" in said
    assert "Traceback" not in page.content()
    assert str(server.folder) not in page.inner_text("body")
    good = write_picture(tmp_path / "picture.png", 48, 64)
    page.reload()
    assert "what to look for" in ask(page, good, "  ")
    assert "given twice" in ask(page, None, "heart\nHeart")
    assert "found" in ask(page, None, "heart")  # the upload is still at hand


def test_it_fits_a_phone(page: Any, tmp_path: Path):
    page.set_viewport_size({"width": 390, "height": 844})
    ask(page, write_picture(tmp_path / "picture.png", 96, 128), "a structure with a rather long name\nheart")
    page.wait_for_selector("#masks img")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_server_takes_no_paths_no_other_names_and_nothing_large(server: Server):
    def status(path: str, body: bytes | None = None, **headers: str) -> int:
        request = urllib.request.Request(server.url + path, data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert status("/") == 200
    assert status("/", Host="evil.example.org") == 403
    assert status("/", Origin="https://evil.example.org") == 403
    assert status("/gradio_api/file=/etc/passwd") == 403
    assert status("/gradio_api/file=" + str(Path(__file__))) == 403
    body = json.dumps({"data": [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}], "fn_index": 0}).encode()
    assert status("/gradio_api/queue/join", body, **{"Content-Type": "application/json"}) == 403
    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + b"0" * (3 << 19)
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    assert status("/gradio_api/upload", form + b"\r\n--x--\r\n", **kind) == 413


def test_a_port_in_use_and_a_missing_checkpoint_are_named(server: Server, checkpoint: Path, capsys):
    port = server.url.rpartition(":")[2]
    assert main(["serve", "--checkpoint", "gone.ckpt"]) == 2
    assert "gone.ckpt" in capsys.readouterr().err
    assert main(["serve", "--checkpoint", str(checkpoint), "--device", "cpu", "--port", port]) == 2
    assert f"127.0.0.1:{port} cannot be used" in capsys.readouterr().err
    assert main(["serve", "--checkpoint", str(checkpoint), "--port", "0"]) == 2
    assert main(["serve", "--checkpoint", str(checkpoint), "--max-upload-mb", "0"]) == 2
