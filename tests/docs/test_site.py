"""The documentation's site: it is built without a warning, shows its equations, and fetches nothing from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs_build.command_line import command_line_page
from docs_build.equations import on_page_content
from medzeroseg.main import COMMANDS, LIGHTNING

# What a browser fetches when a page is shown: scripts, styles, pictures, frames. Links are followed by people.
_FETCHED = re.compile(r"""<(?:script|img|iframe|source|video|audio)[^>]*\bsrc=["']?([^"'\s>]+)|<link[^>]*>""")
_HREF = re.compile(r"""\bhref=["']?([^"'\s>]+)""")


def test_equations_become_mathml() -> None:
    marked = r'<span class="arithmatex">\(\lambda_1 &lt; 2\)</span> <div class="arithmatex">\[x\]</div>'
    html = on_page_content(marked)
    assert "<math" in html
    assert "arithmatex" not in html
    assert 'class="equation"' in html
    assert "&#x0003C;" in html or "&lt;" in html


def test_text_that_is_no_equation_stays() -> None:
    html = '<p>costs 5 dollars</p><div class="other">\\[x\\]</div>'
    assert on_page_content(html) == html


def test_every_command_is_in_the_reference(project_root: Path) -> None:
    page = command_line_page()
    for command in COMMANDS:
        assert re.search(rf"^## medzeroseg {command.name}\b", page, re.MULTILINE), command.name
    for name in LIGHTNING:
        assert f"| `medzeroseg {name}` |" in page
    assert "--hard-negative-fraction" in page
    assert "--trainer.max_epochs" in page
    assert str(project_root) not in page


def test_every_page_is_in_the_navigation(project_root: Path) -> None:
    settings = (project_root / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"^\s+- (?:\w+: )?([\w/-]+\.md)$", settings, re.MULTILINE)
    pages = {str(page.relative_to(project_root / "docs")) for page in (project_root / "docs").rglob("*.md")}
    assert sorted(listed) == sorted(pages | {"reference/command-line.md"})


@pytest.fixture(scope="module")
def site(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=project_root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        html = page.read_text(encoding="utf-8")
        for match in _FETCHED.finditer(html):
            tag = match[0]
            if tag.startswith("<link") and not re.search(r'rel=["\']?(stylesheet|preload|icon|preconnect)', tag):
                continue
            target = match[1] or _HREF.search(tag)[1]
            assert not re.match(r"(https?:)?//", target), f"{page.name}: {target}"
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"""(@import|url\()\s*["']?(https?:)?//""", styles)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_pages_show_what_they_promise(site: Path) -> None:
    losses = (site / "concepts" / "losses.html").read_text(encoding="utf-8")
    assert losses.count('class="equation"') == 5  # equations 1 to 5
    assert (site / "concepts" / "dpfem.html").read_text(encoding="utf-8").count('class="equation"') == 4
    assert "arithmatex" not in losses
    acdc = (site / "datasets" / "acdc.html").read_text(encoding="utf-8")
    assert "patient001_frame01_gt.nii.gz" in acdc  # the tree of the docstring
    assert "CC BY-NC-SA 4.0" in acdc
    assert (site / "search" / "search_index.json").is_file()
