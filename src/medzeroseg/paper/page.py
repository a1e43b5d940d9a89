"""The HTML page of a report: one file, no script, nothing from elsewhere, for light and dark screens."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fdfdfc; --dim: #5b6470; --line: #d5d9de; --tint: #f1f3f5;
  --link: #0b57a4; --bad: #a3261b; --good: #1c6b3a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --paper: #15181b; --dim: #9aa4ae; --line: #383e45;
  --tint: #1f2428; --link: #84bdf5; --bad: #ff9a8f; --good: #7ed09d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem clamp(1rem, 4vw, 3rem) 4rem; max-width: 90rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.3rem; margin: 2.75rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
p, .notes { max-width: 46rem; }
a { color: var(--link); text-underline-offset: .15em; }
code, pre { font: .84em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: var(--tint); padding: .75rem 1rem; overflow: auto; max-height: 32rem;
  border-radius: 4px; margin: .5rem 0; }
.statement { border-left: 4px solid var(--link); padding: .1rem 0 .1rem 1rem; }
nav > ul { columns: 20rem 3; column-gap: 2.5rem; }
nav ul { padding-left: 0; margin: 0 0 .3rem; list-style: none; }
nav ul ul { padding-left: 1.2rem; font-size: .92rem; }
nav li { break-inside: avoid; padding: .1rem 0; }
figure { margin: 1.5rem 0 2.25rem; }
figcaption { font-weight: 600; margin-bottom: .5rem; max-width: 60rem; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 4px; }
.scroll:focus-visible { outline: 2px solid var(--link); outline-offset: 1px; }
table { border-collapse: collapse; font-size: .84rem; line-height: 1.4; width: 100%;
  font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; text-align: left; vertical-align: top; white-space: nowrap; }
thead th { background: var(--tint); border-bottom: 1px solid var(--line); vertical-align: bottom; }
tbody tr + tr td, tbody tr + tr th { border-top: 1px solid var(--line); }
tbody tr.start td { border-top: 2px solid var(--dim); }
tbody th { font-weight: 400; }
.number { text-align: right; }
.notes { color: var(--dim); font-size: .86rem; padding-left: 1.1rem; margin: .6rem 0; }
.dim { color: var(--dim); }
.bad { color: var(--bad); font-weight: 600; }
.good { color: var(--good); }
img { display: block; max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 4px; }
details { margin: .35rem 0; }
summary { cursor: pointer; padding: .15rem 0; }
@media print { body { max-width: none; } .scroll { overflow: visible; border: 0; } pre { max-height: none; } }
"""
_KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        anchor: Its id.
        title: Its head, as text.
        body: Its HTML.
        parts: Anchors and titles below it, for the contents.
    """

    anchor: str
    title: str
    body: str
    parts: Sequence[tuple[str, str]] = ()


def build_page(title: str, head: str, sections: Sequence[Section]) -> str:
    """The whole document.

    Args:
        title: As text.
        head: HTML between the title and the contents.
        sections: In order.
    """
    lines = ["<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">']
    lines += ['<meta name="viewport" content="width=device-width, initial-scale=1">', f"<title>{escape(title)}</title>"]
    lines += [f"<style>{_STYLE}</style>", "</head>", "<body>", f"<header><h1>{escape(title)}</h1>", head, "</header>"]
    lines += ['<nav aria-label="Contents"><ul>', *map(_entry, sections), "</ul></nav>", "<main>"]
    for section in sections:
        lines += [f'<section id="{section.anchor}"><h2>{escape(section.title)}</h2>', section.body, "</section>"]
    return "\n".join([*lines, "</main>", "</body>", "</html>"]) + "\n"


def embed(picture: Path) -> str:
    """A picture as a data URI.

    Raises:
        KeyError: It is of a kind that browsers do not show.
    """
    kind = _KINDS[picture.suffix.lower()]
    return f"data:{kind};base64,{base64.b64encode(picture.read_bytes()).decode('ascii')}"


def link(text: str, target: str) -> str:
    """A link; both are escaped."""
    return f'<a href="{escape(target)}">{escape(text)}</a>'


def build_grid(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table whose cells are HTML already; the first of each row is its head.

    Args:
        columns: Heads, as text.
        rows: Cells.
        numbers: Positions of columns to align to the right.
    """
    sides = [' class="number"' if n in numbers else "" for n in range(len(columns))]
    lines = ['<div class="scroll" tabindex="0"><table><thead><tr>']
    lines += [f'<th scope="col"{side}>{escape(column)}</th>' for column, side in zip(columns, sides, strict=True)]
    lines += ["</tr></thead><tbody>"]
    for first, *rest in rows:
        cells = [f"<td{side}>{cell}</td>" for cell, side in zip(rest, sides[1:], strict=True)]
        lines.append(f'<tr><th scope="row">{first}</th>{"".join(cells)}</tr>')
    return "\n".join([*lines, "</tbody></table></div>"])


def _entry(section: Section) -> str:
    below = "".join(f"<li>{link(title, f'#{anchor}')}</li>" for anchor, title in section.parts)
    return f"<li>{link(section.title, f'#{section.anchor}')}{f'<ul>{below}</ul>' if below else ''}</li>"
