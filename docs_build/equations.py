"""Equations as MathML, made when the site is built: a page that is read fetches no script for them."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

_EQUATION = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\(?P<open>[(\[])(?P<latex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)


def on_page_content(page_html: str, **_: Any) -> str:  # noqa: ANN401 - mkdocs' own objects, not used
    r"""Replace what `pymdownx.arithmatex` has marked; a hook of mkdocs.

    Args:
        page_html: The page's HTML, with `\(...\)` in spans and `\[...\]` in divs.
        **_: Page, configuration, files.

    Returns:
        The HTML with `<math>` instead; equations that stand alone lie in a `div` that scrolls where it is too narrow.
    """
    return _EQUATION.sub(_to_mathml, page_html)


def _to_mathml(match: re.Match[str]) -> str:
    latex = html.unescape(match["latex"]).strip()
    if match["open"] == "(":
        return convert(latex)
    return f'<div class="equation">{convert(latex, display="block")}</div>'
