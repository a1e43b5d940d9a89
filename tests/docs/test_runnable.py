"""The commands and examples of README and documentation do what they say.

Blocks are marked in the Markdown itself, see `tests.docs.fences`. The two main commands, `make train EXP=phantom_cehnc`
and `make test`, are marked `ci` and not run again: `.ci/run` runs the tests, and the training is minutes long.
"""

import re
import sys
from pathlib import Path

import pytest

from tests.docs.fences import make_checkout, read_fences, run_fence

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    str(page.relative_to(ROOT)): read_fences(page)
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
}
MARKED = [page for page, fences in PAGES.items() if any(fence.when != "ci" for fence in fences)]
SLOW = [page for page in MARKED if any(fence.when == "slow" for fence in PAGES[page])]
FAST = [page for page in MARKED if any(fence.when == "" and not fence.title for fence in PAGES[page])]


@pytest.fixture
def checkout(tmp_path: Path, phantom: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_checkout(tmp_path, ROOT, phantom, checkpoint)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return tmp_path


def _run(page: str, checkout: Path, *, slow: bool) -> None:
    before = set(sys.modules)
    try:
        for fence in PAGES[page]:
            if fence.when == "" or (slow and fence.when == "slow"):
                run_fence(fence, checkout)
    finally:
        for name in set(sys.modules) - before:  # a page's own modules must not be another page's
            if str(getattr(sys.modules[name], "__file__", None)).startswith(str(checkout)):
                del sys.modules[name]


@pytest.mark.parametrize("page", FAST)
def test_examples_of_the_page_run(page: str, checkout: Path) -> None:
    _run(page, checkout, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW)
def test_slow_examples_of_the_page_run(page: str, checkout: Path) -> None:
    _run(page, checkout, slow=True)


def test_each_guide_has_an_example_that_is_run() -> None:
    guides = {page for page in PAGES if page.startswith("docs/guides/")}
    assert len(guides) == 4
    assert guides <= set(MARKED)


@pytest.mark.parametrize("page", ["README.md", "docs/quick-start.md"])
def test_the_pages_of_a_new_user_are_run(page: str) -> None:
    commands = [fence.code for fence in PAGES[page] if fence.when == "" and fence.language == "sh"]
    assert any("medzeroseg segment" in command for command in commands)
    assert any("make train EXP=phantom_cehnc" in fence.code for fence in PAGES[page] if fence.when == "ci")


def test_links_of_the_readme_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if not link.startswith("http")]
    assert len(links) > 20
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_a_mark_without_a_block_is_a_fault(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- runnable -->\n\n```sh\nls\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="not followed"):
        read_fences(page)
