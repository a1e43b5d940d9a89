"""Serves the page from a private folder that is emptied all the time and removed at the end."""

import contextlib
import ipaddress
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medzeroseg.errors import ConfigurationError

if TYPE_CHECKING:
    from medzeroseg.inference.running import Run

KEPT_S = 900
"""Age at which results are removed."""
_SWEEP_S = 60


def listen(host: str, port: int) -> socket.socket:
    """Take the address, before the model is loaded.

    Args:
        host: Address to listen at.
        port: Port.

    Raises:
        ConfigurationError: It cannot be taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigurationError(
            f"port: {host}:{port} cannot be used ({error.strerror or error}); give another --port or --host"
        ) from error


def serve(run: "Run", taken: socket.socket, upload_bytes: int) -> None:
    """Serve until interrupted.

    Args:
        run: A loaded model.
        taken: From `listen`.
        upload_bytes: Size of the largest upload.
    """
    host, port = taken.getsockname()[:2]
    with tempfile.TemporaryDirectory(prefix="medzeroseg-serve-") as name, _sweeping(Path(name)):
        app = build_app(run, Path(name), host, upload_bytes)
        import uvicorn

        shown = f"[{host}]" if ":" in host else host
        if not _is_loopback(host):
            print(  # noqa: T201 - the command's answer
                f"medzeroseg: {host} can be reached from other machines, by anybody and without encryption",
                file=sys.stderr,
            )
        print(f"MedZeroSeg listens at http://{shown}:{port} (Ctrl+C ends it)", flush=True)  # noqa: T201
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False, access_log=False))
        # uvicorn raises the signal that ended it once more, which would end us before the folder is removed
        signal.signal(signal.SIGTERM, _leave)
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[taken])


def build_app(run: "Run", folder: Path, host: str, upload_bytes: int) -> Any:  # noqa: ANN401 - FastAPI, imported late
    """The page behind its guards, as an ASGI application.

    Args:
        run: A loaded model.
        folder: Private; everything that is written lies in it.
        host: The address that it will listen at.
        upload_bytes: Size of the largest upload.
    """
    uploads = folder / "uploads"
    uploads.mkdir()
    # gradio reads these when it is imported
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(uploads),
        "GRADIO_RUN_HISTORY": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    import gradio as gr
    from fastapi import FastAPI

    from medzeroseg.web.guard import Guard
    from medzeroseg.web.page import CSS, THEME, build_page
    from medzeroseg.web.service import Service

    page = build_page(Service(run, folder))
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    hosts = {host, "localhost", "127.0.0.1", "::1"} if _is_loopback(host) else set()
    app.add_middleware(Guard, uploads=uploads, upload_bytes=upload_bytes, hosts=hosts)
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        server_name=host,
        allowed_paths=[],
        show_error=False,
        max_file_size=upload_bytes,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        run_history=False,
        enable_monitoring=False,
        footer_links=[],
        css=CSS,
        theme=gr.themes.Soft(**THEME),
    )
    page.has_launched = True  # gradio checks the paths of files only then; the guard has done so before
    return app


def _leave(*_: object) -> None:
    sys.exit(0)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def _sweeping(folder: Path) -> Iterator[None]:
    """Remove files of a certain age while the context is open."""
    done = threading.Event()

    def sweep() -> None:
        while not done.wait(_SWEEP_S):
            remove_old(folder, KEPT_S)

    threading.Thread(target=sweep, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def remove_old(folder: Path, age_s: float) -> None:
    """Remove the files below a folder that were last written longer ago than this."""
    limit = time.time() - age_s
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # gone meanwhile
            if path.is_file() and path.stat().st_mtime < limit:
                path.unlink()
