"""Fenced blocks of Markdown that are marked as runnable, and the scratch checkout in which they run.

The mark is a comment on the line before the fence:

    <!-- runnable -->          run in the fast tests
    <!-- runnable: slow -->    run in the slow tests
    <!-- runnable: ci -->      not run again: one of the two commands with which CI begins

A block with a title (```yaml title="experiments/mine.yaml") is written to that file; other blocks are executed: `sh` by
bash, `python` in the process. The blocks of a page run in their order, in one folder.
"""

import re
import runpy
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_MARKED = re.compile(
    r"^<!-- runnable(?:: (?P<when>\w+))? -->\n```(?P<language>\w+)(?P<options>[^\n]*)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_TITLE = re.compile(r'title="([^"]+)"')
_LINKED = ("Makefile", "setup.cfg", "pyproject.toml", "requirements.lock", "src", "data_modules", "README.md")


@dataclass(frozen=True)
class Fence:
    """A marked block: when it runs ("", "slow", "ci"), its language, its file's name or "", its text."""

    when: str
    language: str
    title: str
    code: str


def read_fences(page: Path) -> list[Fence]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _MARKED.finditer(text):
        title = _TITLE.search(match["options"])
        found.append(Fence(match["when"] or "", match["language"], title[1] if title else "", match["code"]))
    marks = re.findall("^<!-- runnable", text, re.MULTILINE)
    assert len(found) == len(marks), f"{page}: a mark is not followed by a fenced block"
    return found


def make_checkout(folder: Path, root: Path, data: Path, checkpoint: Path) -> None:
    """What a new user has after the README's first command: code, `.venv`, a checkpoint, a phantom (both small)."""
    for name in _LINKED:
        (folder / name).symlink_to(root / name)
    shutil.copytree(root / "experiments", folder / "experiments")
    (folder / ".venv").mkdir()
    for entry in Path(sys.prefix).iterdir():
        if entry.name != ".ready":
            (folder / ".venv" / entry.name).symlink_to(entry)
    (folder / ".venv" / ".ready").touch()  # newest of all: make must not install into the tests' environment
    (folder / "data").mkdir()
    (folder / "data" / "phantom").symlink_to(data)
    kept = folder / "runs" / "phantom_cehnc" / "seed_0" / "checkpoints" / "best.ckpt"
    kept.parent.mkdir(parents=True)
    kept.symlink_to(checkpoint)


def run_fence(fence: Fence, folder: Path) -> None:
    """Write or execute a block in the folder, which is the current one and importable."""
    if fence.title:
        path = folder / fence.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(fence.code, encoding="utf-8")
    elif fence.language == "python":
        script = folder / "fence.py"
        script.write_text(fence.code, encoding="utf-8")
        runpy.run_path(str(script), run_name="__main__")
    elif fence.language in ("sh", "bash"):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", fence.code], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{fence.code}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    else:
        raise AssertionError(f"a {fence.language} block is marked as runnable, but has no title to be written to")
