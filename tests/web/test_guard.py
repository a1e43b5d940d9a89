"""What a client may name, and how much it may send, without the page behind it."""

import asyncio
import json
from pathlib import Path

import pytest

from medzeroseg.web.guard import POLICY, Guard


class Inner:
    """The guarded application: remembers what reached it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, scope, receive, send) -> None:
        self.bodies.append((await receive()).get("body", b"") if scope["method"] == "POST" else b"")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"public")]})
        await send({"type": "http.response.body", "body": b"ok"})


def ask(
    uploads: Path,
    path: str,
    body: bytes | None = None,
    chunks: int = 1,
    declared: int | None = None,
    headers=(),
    hosts=(),
):
    inner, sent = Inner(), []
    guard = Guard(inner, uploads, upload_bytes=5 << 20, hosts=hosts)
    pieces = [] if body is None else [body] * chunks

    async def receive():
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message):
        sent.append(message)

    length = [] if body is None else [(b"content-length", str(declared or len(body) * chunks).encode())]
    scope = {"type": "http", "method": "GET" if body is None else "POST", "path": path, "headers": [*length, *headers]}
    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), inner.bodies


def named(path: object) -> bytes:
    return json.dumps(
        {"data": [[{"path": path, "meta": {"_type": "gradio.FileData"}}], "liver"], "fn_index": 2}
    ).encode()


def test_an_upload_may_be_named_and_its_message_arrives_whole(tmp_path: Path):
    body = named(str(tmp_path / "ab12" / "scan.png"))
    status, headers, bodies = ask(tmp_path, "/gradio_api/queue/join", body)
    assert status == 200
    assert bodies == [body]
    assert headers[b"content-security-policy"] == POLICY.encode()
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"referrer-policy"] == b"no-referrer"


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/passwd", "etc/passwd", "{uploads}/../secret", "http://169.254.169.254/latest", "file:///etc/passwd"),
        *("", 7, ["/etc/passwd"], "{uploads}\0/x", "{uploads}-other/x"),
    ],
)
@pytest.mark.parametrize("place", ["queue/join", "run/predict", "call/segment", "component_server"])
def test_no_other_path_or_address_may_be_named(tmp_path: Path, path: object, place: str):
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    asked = path.replace("{uploads}", str(uploads)) if isinstance(path, str) else path
    status, _, bodies = ask(uploads, f"/gradio_api/{place}", named(asked))
    assert (status, bodies) == (403, [])


def test_a_link_out_of_the_folder_is_followed_and_refused(tmp_path: Path):
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "link").symlink_to("/etc")
    assert ask(tmp_path / "uploads", "/gradio_api/queue/join", named(f"{tmp_path}/uploads/link/passwd"))[0] == 403


@pytest.mark.parametrize("body", [b"path=/etc/passwd", b"\xff\xfe", b"{"])
def test_messages_that_are_no_json_are_refused(tmp_path: Path, body: bytes):
    assert ask(tmp_path, "/gradio_api/queue/join", body)[0] == 403


@pytest.mark.parametrize("mark", ["file=", "file/"])
def test_only_own_files_are_handed_out(tmp_path: Path, mark: str):
    (tmp_path / "uploads").mkdir()
    uploads = tmp_path / "uploads"
    assert ask(uploads, f"/gradio_api/{mark}{uploads}/answer/mask.png")[0] == 200
    for path in ("/etc/passwd", f"{uploads}/../secret", "http://example.org/x.png", "%2e%2e/secret"):
        assert ask(uploads, f"/gradio_api/{mark}{path}")[0] == 403, path
    assert ask(uploads, "/gradio_api/proxy=https://example.org/x")[0] == 403


def test_sizes_are_limited(tmp_path: Path):
    large = b'{"data": "' + b"x" * (1 << 20) + b'"}'
    assert ask(tmp_path, "/gradio_api/queue/join", large)[0] == 413
    assert ask(tmp_path, "/gradio_api/queue/join", b"x" * (1 << 18), chunks=8, declared=10)[0] == 413  # a lie
    assert ask(tmp_path, "/gradio_api/upload", b"x", declared=7 << 20)[0] == 413
    assert ask(tmp_path, "/gradio_api/upload", b"x" * (2 << 20))[0] == 200


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:7860", None, 200),
        ("localhost:7860", "http://localhost:7860", 200),
        ("[::1]:7860", None, 200),
        ("evil.example.org", None, 403),
        ("evil.example.org:7860", "http://evil.example.org:7860", 403),
        ("127.0.0.1:7860", "https://evil.example.org", 403),
        ("127.0.0.1:7860", "http://127.0.0.1:9999", 403),
        ("127.0.0.1:7860", "null", 403),
        ("", None, 403),
    ],
)
def test_on_loopback_only_own_names_and_own_pages(tmp_path: Path, host: str, origin: str | None, status: int):
    headers = [(b"host", host.encode()), *([(b"origin", origin.encode())] if origin else [])]
    assert ask(tmp_path, "/", headers=headers, hosts=("127.0.0.1", "localhost", "::1"))[0] == status
    assert ask(tmp_path, "/", headers=headers)[0] == 200  # elsewhere a proxy may give it any name
