"""Draws a figure's panels; the same input gives the same bytes."""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from medzeroseg.colours import COLOURS
from medzeroseg.figures.kept_slices import Mask
from medzeroseg.figures.painting import cell_edges

_CELL_IN, _HEAD_IN, _LEFT_IN, _LINE_IN, _FOOT_IN = 1.75, 0.62, 0.95, 0.155, 0.24
_FILL, _FONT_PT, _SMALL_PT = 0.35, 8.0, 7.0
# Type 42 keeps the text of a PDF as text
_STYLE: dict[Any, Any] = {
    "pdf.fonttype": 42,
    "font.family": "DejaVu Sans",
    "font.size": _FONT_PT,
    "text.parse_math": False,  # a dollar in a case's name is one
}
DPI = 200


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes:
        image: (H, W) grey levels, or None: nothing is there, and `note` says why.
        masks: Place of the structure -> (H, W); filled in its colour and outlined.
        heat: (h, w) saliency 0..255, drawn in place of the image.
        outlined: (H, W), outlined in white.
        stretch: Height of a pixel by its width.
        foot: A line below.
        note: Words in the middle.
        bar: Length of the scale bar in pixels, and what it says.
    """

    image: npt.NDArray[np.uint8] | None
    masks: dict[int, Mask] = field(default_factory=dict)
    heat: npt.NDArray[np.uint8] | None = None
    outlined: Mask | None = None
    stretch: float = 1.0
    foot: str = ""
    note: str = ""
    bar: tuple[float, str] | None = None


@dataclass(frozen=True)
class Sheet:
    """A figure: rows of panels.

    Attributes:
        heads: Of the columns.
        sides: Of the rows, left of them.
        rows: As many panels each as there are heads.
        structures: Names for the legend, in the order of their places; empty: no legend.
        caption: Below.
        cell: Side of a panel, inches.
    """

    heads: Sequence[str]
    sides: Sequence[str]
    rows: Sequence[Sequence[Panel]]
    structures: Sequence[str]
    caption: str
    cell: float = _CELL_IN


def draw(sheet: Sheet) -> Figure:
    """Lay out a figure."""
    with rc_context(_STYLE):
        width = _LEFT_IN + len(sheet.heads) * (sheet.cell + 0.06) + 0.05
        caption = textwrap.wrap(sheet.caption, int(width * 19))
        legend_lines = -(-len(sheet.structures) // max(1, int(width / 1.5)))
        below = 0.12 + legend_lines * 0.2 + (len(caption) + 0.5) * _LINE_IN
        step = sheet.cell + _FOOT_IN
        height = _HEAD_IN + len(sheet.rows) * step + below
        figure = Figure((width, height), dpi=DPI)
        for row, (side, panels) in enumerate(zip(sheet.sides, sheet.rows, strict=True)):
            top = height - _HEAD_IN - row * step
            figure.text(0.06 / width, (top - 0.02) / height, side, va="top", fontsize=_SMALL_PT)
            for column, panel in enumerate(panels):
                left = _LEFT_IN + column * (sheet.cell + 0.06)
                box = (left / width, (top - sheet.cell) / height, sheet.cell / width, sheet.cell / height)
                axes = figure.add_axes(box)
                _draw_panel(axes, panel)
                middle = (left + sheet.cell / 2) / width
                figure.text(middle, (top - sheet.cell - 0.04) / height, panel.foot, va="top", ha="center", fontsize=6.5)
                if row == 0:
                    lines = [part for line in sheet.heads[column].split("\n") for part in textwrap.wrap(line, 28)]
                    words = "\n".join(lines[:4])
                    figure.text(middle, (top + 0.04) / height, words, va="bottom", ha="center", fontsize=_SMALL_PT)
        if sheet.structures:
            figure.legend(
                handles=[_swatch(n, name) for n, name in enumerate(sheet.structures)],
                loc="upper center",
                bbox_to_anchor=(0.5, (below - 0.02) / height),
                ncols=max(1, int(width / 1.5)),
                frameon=False,
                fontsize=_SMALL_PT,
                borderpad=0,
            )
        figure.text(0.06 / width, 0.06 / height, "\n".join(caption), va="bottom", fontsize=6.5, linespacing=1.3)
        return figure


def to_png(figure: Figure) -> bytes:
    """As PNG, without the time or the program's version in it."""
    stream = io.BytesIO()
    with rc_context(_STYLE):
        figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return stream.getvalue()


def to_pdf(figure: Figure) -> bytes:
    """As PDF with text and outlines as such, without the time in it."""
    stream = io.BytesIO()
    with rc_context(_STYLE):
        figure.savefig(stream, format="pdf", dpi=DPI, metadata={"CreationDate": None})
    return stream.getvalue()


def scale_bar(width_px: int, column_mm: float | None) -> tuple[float, str]:
    """A round length of about a quarter of a picture.

    Args:
        width_px: Of the picture.
        column_mm: Between columns; None where lost.

    Returns:
        Its length in pixels, and its length in words: mm, or px where the spacing is lost.
    """
    unit, size = ("px", 1.0) if column_mm is None else ("mm", column_mm)
    longest = width_px * size / 3.5
    steps = [factor * 10.0**power for power in range(-2, 5) for factor in (1, 2, 5)]
    length = max((step for step in steps if step <= longest), default=longest)
    return length / size, f"{length:g} {unit}"


def _draw_panel(axes: Axes, panel: Panel) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    if panel.image is None:
        axes.set_facecolor("#eeeeee")
        axes.text(0.5, 0.5, textwrap.fill(panel.note, 20), transform=axes.transAxes, ha="center", va="center")
        return
    height, width = panel.image.shape
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    if panel.heat is None:
        axes.imshow(panel.image, cmap="gray", vmin=0, vmax=255, interpolation="bilinear", extent=extent)
    else:
        axes.imshow(panel.heat, cmap="cividis", vmin=0, vmax=255, interpolation="bilinear", extent=extent)
    for place, mask in sorted(panel.masks.items(), key=lambda one: (-int(one[1].sum()), one[0])):
        if mask.any():
            layer = np.zeros((height, width, 4))
            layer[mask] = (*_colour(place), _FILL)
            axes.imshow(layer, interpolation="nearest", extent=extent)
            _outline(axes, mask, _colour(place), _line(place), 0.9)
    if panel.outlined is not None and panel.outlined.any():
        _outline(axes, panel.outlined, (1.0, 1.0, 1.0), "-", 0.8)
    if panel.bar is not None:
        length, words = panel.bar
        left, bottom = 0.04 * width, 0.94 * height
        bar = Rectangle((left, bottom), length, 0.014 * height, facecolor="white", edgecolor="black", linewidth=0.4)
        axes.add_patch(bar)
        box = {"facecolor": "black", "alpha": 0.5, "edgecolor": "none", "pad": 0.8}
        axes.text(left, bottom - 0.02 * height, words, color="white", va="bottom", fontsize=6, bbox=box)
    axes.set_aspect(panel.stretch)
    axes.set_facecolor("black")
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _outline(axes: Axes, mask: Mask, colour: tuple[float, float, float], style: str, points: float) -> None:
    """Along the edges of the pixels, so that it hides and adds none."""
    xs, ys = cell_edges(mask)
    axes.plot(xs, ys, color=colour, linestyle=style, linewidth=points, solid_capstyle="projecting", antialiased=True)


def _swatch(place: int, name: str) -> Patch:
    fill = (*_colour(place), _FILL + 0.2)
    return Patch(facecolor=fill, edgecolor=_colour(place), linestyle=_line(place), label=name)


def _line(place: int) -> Literal["-", "--"]:
    return "--" if place >= len(COLOURS) else "-"


def _colour(place: int) -> tuple[float, float, float]:
    red, green, blue = COLOURS[place % len(COLOURS)]  # beyond their number lines are dashed
    return red / 255, green / 255, blue / 255
