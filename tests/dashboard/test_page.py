"""`make dashboard` in a real browser: every tab shows what the runs have left."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from medzeroseg.main import main

_BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
_MISSING = [] if find_spec("playwright") else ["playwright"]
_MISSING += [] if _BROWSER else ["chromium (apt-get install chromium)"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(_MISSING), reason=f"missing here: {', '.join(_MISSING)}"),
]
_PATIENCE_MS = 120_000
DATA = "--data.init_args."


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Path:
    """Two seeds of a short training on a small phantom."""
    folder = tmp_path_factory.mktemp("dashboard")
    words = ["--trainer.max_epochs=2", "--trainer.log_every_n_steps=1", "--trainer.enable_progress_bar=false"]
    words += [f"{DATA}{name}={value}" for name, value in (("train", 16), ("validation", 8), ("test", 6))]
    words += [
        f"{DATA}batch_size=8",
        f"{DATA}num_workers=0",
        f"{DATA}phantom_workers=0",
        f"{DATA}root={folder / 'data'}",
    ]
    options = ["--seeds", "0", "1", "--", "--trainer.accelerator=cpu", *words, f"--runs_dir={folder / 'runs'}"]
    assert main(["train", str(project_root / "experiments" / "phantom_cehnc.yaml"), *options]) == 0
    return folder / "runs"


@pytest.fixture(scope="module")
def browser(runs: Path) -> Iterator[Any]:
    """A browser, and a server on the runs at `browser.url`."""
    from playwright.sync_api import sync_playwright

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    program = Path(sys.executable).with_name("tensorboard")
    words = [program, "--logdir", runs, "--host", "127.0.0.1", "--port", str(port), "--reload_interval", "1"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(240):
            assert process.poll() is None, f"tensorboard ended with {process.returncode}"
            try:
                # its reader is in step with the files once both runs' settings are there
                with urllib.request.urlopen(f"{url}/data/runs", timeout=5) as answer:
                    if answer.read().count(b"hparams") == 2:
                        break
            except urllib.error.URLError:
                pass
            time.sleep(0.5)
        else:
            raise AssertionError("tensorboard does not list the runs")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=_BROWSER, args=["--no-sandbox", "--disable-gpu"])
            browser.url = url
            yield browser
            browser.close()
    finally:
        process.kill()
        process.wait()


def show(browser: Any, tab: str) -> Any:
    """Open a tab in a page of its own: tabs that were shown before stay in the page, hidden."""
    page = browser.new_page(viewport={"width": 1500, "height": 1000})
    page.set_default_timeout(_PATIENCE_MS)
    page.goto(f"{browser.url}/#{tab}")
    return page


def test_custom_scalars_are_grouped(browser: Any) -> None:
    shown = show(browser, "custom_scalars")
    for group in ("Retrieval", "Loss", "Segmentation", "System"):
        shown.get_by_text(group, exact=True).first.wait_for()
    for chart in ("top-1 among all, %", "lambda", "gradient norm, before clipping", "window loss"):
        shown.get_by_text(chart, exact=True).first.wait_for()
    # how many curves a chart has found
    assert shown.get_by_text("Matches (2)").count() >= 3


def test_images_show_pairs_and_maps(browser: Any) -> None:
    shown = show(browser, "images")
    for tag in ("val/pairs", "val/saliency"):
        shown.get_by_text(tag, exact=False).first.wait_for()


def test_runs_are_compared_by_settings_and_metrics(browser: Any) -> None:
    shown = show(browser, "hparams")
    for text in ("optimizer.lr", "loss.lambda_image_to_text", "batch_size", "CEHNCLoss", "i2t_top1"):
        shown.get_by_text(text, exact=False).first.wait_for()
    for seed in (0, 1):
        shown.get_by_text(f"phantom_cehnc/seed_{seed}", exact=False).first.wait_for()


def test_the_projector_has_images_and_texts(browser: Any) -> None:
    shown = show(browser, "projector").frame_locator("iframe").frame_locator("iframe")  # a plugin's page in its own
    shown.get_by_text("Points: 12").first.wait_for()  # 6 pairs
    shown.get_by_text("Dimension: 128").first.wait_for()
