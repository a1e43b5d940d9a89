"""Stands between a browser and the page: no outside addresses, no paths of the client's choosing, no large bodies."""

import json
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""Content-Security-Policy: the browser itself refuses to fetch anything from elsewhere."""
_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)
_MOST_MESSAGE_BYTES = 1 << 20
"""Of a message that is no upload: words, settings, names of uploads."""
_UPLOAD = "/upload"
_FILES = ("/gradio_api/file=", "/gradio_api/file/")


class Guard:
    """ASGI middleware.

    A message that names a file must name one within the folder of uploads: gradio would otherwise download addresses
    that a client sends in their place. Files are handed out from that folder alone. Where `hosts` are given, requests
    under another name (a name of another site that was made to point here) and from pages of other sites get no answer.

    Args:
        app: What it guards.
        uploads: Folder of the uploads.
        upload_bytes: Size of the largest upload.
        hosts: Names under which it may be asked; empty: any.
    """

    def __init__(self, app: App, uploads: Path, upload_bytes: int, hosts: Collection[str] = ()) -> None:
        self.app = app
        self.hosts = frozenset(hosts)
        self.uploads = uploads.resolve()
        self.upload_bytes = upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if self.hosts and not self._is_asked_directly(headers):
            await _answer(send, 403, "not under this name, and not from other pages")
            return
        path = unquote(scope["path"])
        if "/proxy=" in path or not self._serves(path):
            await _answer(send, 403, "not a file of this page")
            return
        if scope["method"] == "POST":
            is_upload = path.rstrip("/").endswith(_UPLOAD)
            length = int(headers.get(b"content-length", b"0") or 0)
            # a little more than the file: the form around it
            most = self.upload_bytes + _MOST_MESSAGE_BYTES if is_upload else _MOST_MESSAGE_BYTES
            if length > most:
                await _answer(send, 413, "too large")
                return
            if not is_upload:
                body = await _body(receive, most)
                if body is None:
                    await _answer(send, 413, "too large")
                    return
                if not self._names_only_uploads(body):
                    await _answer(send, 403, "not a file of this page")
                    return
                receive = _again(body, receive)
        await self.app(scope, receive, _with_headers(send))

    def _is_asked_directly(self, headers: dict[bytes, bytes]) -> bool:
        host, origin = headers.get(b"host", b"").decode("latin-1"), headers.get(b"origin", b"").decode("latin-1")
        name = urlsplit(f"//{host}").hostname
        return name in self.hosts and (not origin or urlsplit(origin).netloc == host)

    def _serves(self, path: str) -> bool:
        """Whether a path asks for no file, or for one of ours; gradio has two spellings."""
        asked = [path.partition(mark)[2] for mark in _FILES if mark in path]
        return all(self._is_ours(f"/{file.lstrip('/')}") for file in asked)

    def _names_only_uploads(self, body: bytes) -> bool:
        if not body.strip():
            return True
        try:
            message = json.loads(body)
        except ValueError:
            return False
        return all(self._is_ours(path) for path in _paths(message))

    def _is_ours(self, path: object) -> bool:
        if not isinstance(path, str) or "://" in path or "\0" in path:
            return False
        return Path(path).is_absolute() and Path(path).resolve().is_relative_to(self.uploads)


def _paths(value: object) -> list[object]:
    """Whatever stands under `path` in a message, however deep."""
    if isinstance(value, dict):
        found = [value["path"]] if value.get("path") is not None else []
        return found + [path for item in value.values() for path in _paths(item)]
    if isinstance(value, list):
        return [path for item in value for path in _paths(item)]
    return []


async def _body(receive: Receive, most: int) -> bytes | None:
    """The whole body, or None where it is longer than `most`."""
    chunks, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > most:
            return None
        more = message.get("more_body", False)
    return b"".join(chunks)


def _again(body: bytes, receive: Receive) -> Receive:
    waiting = [body]

    async def replay() -> MutableMapping[str, Any]:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return replay


def _with_headers(send: Send) -> Send:
    async def forward(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            named = {name for name, _ in _HEADERS}
            kept = [header for header in message.get("headers", []) if header[0].lower() not in named]
            message = {**message, "headers": [*kept, *_HEADERS]}
        await send(message)

    return forward


async def _answer(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
