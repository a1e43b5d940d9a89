"""Serves the page from a private folder that is emptied all the time and removed at the end."""

import contextlib
import ipaddress
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from medzeroseg.errors import ConfigurationError
from medzeroseg.inference.running import Run

KEPT_S = 900
"""Age at which results are removed."""
_SWEEP_S = 60


def serve(run: Run, host: str, port: int, upload_bytes: int) -> None:
    """Serve until interrupted.

    Args:
        run: A loaded model.
        host: Address to listen at.
        port: Port.
        upload_bytes: Size of the largest upload.

    Raises:
        ConfigurationError: The address cannot be listened at.
    """
    with tempfile.TemporaryDirectory(prefix="medzeroseg-serve-") as name, _sweeping(Path(name)):
        folder = Path(name)
        uploads = folder / "uploads"
        uploads.mkdir()
        # gradio reads these on import
        os.environ |= {
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_TEMP_DIR": str(uploads),
            "GRADIO_RUN_HISTORY": "False",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        import gradio as gr
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        from medzeroseg.web.guard import Guard
        from medzeroseg.web.page import CSS, THEME, build_page
        from medzeroseg.web.service import Service

        middleware = [Middleware(Guard, uploads=uploads, upload_bytes=upload_bytes)]
        if _is_loopback(host):
            # another site's name that is made to point here gets no answer
            middleware.insert(0, Middleware(TrustedHostMiddleware, allowed_hosts=[host, "localhost", "127.0.0.1"]))
        else:
            print(  # noqa: T201 - the command's answer
                f"medzeroseg: {host} can be reached from other machines, by anybody and without encryption",
                file=sys.stderr,
            )
        page = build_page(Service(run, folder))
        try:
            page.launch(
                server_name=host,
                server_port=port,
                share=False,
                inbrowser=False,
                quiet=True,
                show_error=False,
                prevent_thread_lock=True,
                max_file_size=upload_bytes,
                ssr_mode=False,
                mcp_server=False,
                pwa=False,
                run_history=False,
                enable_monitoring=False,
                allowed_paths=[],
                footer_links=[],
                css=CSS,
                theme=gr.themes.Soft(**THEME),
                app_kwargs={"middleware": middleware, "docs_url": None, "redoc_url": None, "openapi_url": None},
            )
        except OSError as error:
            raise ConfigurationError(f"port: {host}:{port} cannot be used ({error}); give another --port") from error
        shown = f"[{host}]" if ":" in host else host
        print(f"MedZeroSeg listens at http://{shown}:{port} (Ctrl+C ends it)", flush=True)  # noqa: T201
        try:
            page.block_thread()
        finally:
            page.close(verbose=False)


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
