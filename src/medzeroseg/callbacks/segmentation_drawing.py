"""Draws segmentations side by side."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from medzeroseg.colours import COLOURS
from medzeroseg.figures.painting import Picture, colours_of, heat, outline, overlay

_CELL_PX, _GAP_PX, _LEGEND_PX, _LINE_PX = 144, 4, 168, 13
_INK = (0, 0, 0)


@dataclass
class SheetCase:
    """One slice and what was made of it.

    Attributes:
        title: What is shown.
        structures: Names of the P structures drawn; the first one's saliency is shown.
        colours: The place of each in `COLOURS`.
        image: (H, W) float in [0, 1].
        reference: (P, H, W) bool.
        results: Method's title -> masks (P, H, W) bool and saliency (H, W) in [0, 1] of the first structure.
    """

    title: str
    structures: list[str]
    colours: list[int]
    image: Tensor
    reference: Tensor
    results: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


def structure_masks(labels: Tensor, structures: Mapping[str, Sequence[int]]) -> Tensor:
    """Label ids (H, W) to the masks (P, H, W) bool of P structures, each a union of ids."""
    return torch.stack([torch.isin(labels, torch.tensor(ids).to(labels)) for ids in structures.values()])


def sheet_case(
    title: str, image: Tensor, reference: Tensor, structures: Mapping[str, Sequence[int]]
) -> tuple[SheetCase, list[int]]:
    """A slice to draw, without results yet.

    Args:
        title: What is shown.
        image: (H, W) float in [0, 1].
        reference: (H, W) label ids.
        structures: Names, and the ids whose union each is.

    Returns:
        The case, and the places of the structures drawn: the largest, as many as there are colours.
    """
    parts = structure_masks(reference, structures)
    drawn = parts.flatten(1).sum(dim=1).sort(descending=True, stable=True).indices[: len(COLOURS)].tolist()
    names = list(structures)
    case = SheetCase(title, [names[n] for n in drawn], colours_of(drawn), image.cpu(), parts[drawn].cpu())
    return case, drawn


def draw_sheet(cases: list[SheetCase], footnote: str) -> Image.Image:
    """Draw cases below one another: image and reference, then each method's masks and, under them, its saliency.

    Args:
        cases: With the same methods each.
        footnote: A line at the foot, e.g. how the cases were chosen.

    Returns:
        An RGB picture.
    """
    heads = ["image", "reference", *cases[0].results]
    step, font = _CELL_PX + _GAP_PX, ImageFont.load_default(size=11)
    wrapped = [textwrap.wrap(head, 22) for head in heads]
    top = (max(map(len, wrapped)) + 1) * _LINE_PX
    height = top + len(cases) * (2 * step + _LINE_PX) + 2 * _LINE_PX
    sheet = Image.new("RGB", (_LEGEND_PX + len(heads) * step, height), "white")
    draw = ImageDraw.Draw(sheet)
    for column, lines in enumerate(wrapped):
        draw.multiline_text((_LEGEND_PX + column * step, 3), "\n".join(lines), fill=_INK, font=font, spacing=1)
    for row, case in enumerate(cases):
        y = top + row * (2 * step + _LINE_PX)
        _draw_legend(draw, case, y, font)
        grey = np.repeat(grey_levels(case.image)[..., None], 3, axis=2)
        sheet.paste(cell(grey), (_LEGEND_PX, y))
        sheet.paste(cell(overlay(grey, case.reference, case.colours)), (_LEGEND_PX + step, y))
        for column, (masks, saliency) in enumerate(case.results.values(), start=2):
            x = _LEGEND_PX + column * step
            sheet.paste(cell(overlay(grey, masks, case.colours)), (x, y))
            sheet.paste(cell(outline(heat(saliency), case.reference[0])), (x, y + step))
    draw.text((3, height - int(1.5 * _LINE_PX)), footnote, fill=_INK, font=font)
    return sheet


def _draw_legend(
    draw: ImageDraw.ImageDraw, case: SheetCase, y: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> None:
    lines = textwrap.wrap(case.title, 26)[:4]
    for n, line in enumerate(lines):
        draw.text((3, y + n * _LINE_PX), line, fill=_INK, font=font)
    start = y + (len(lines) + 1) * _LINE_PX
    for n, (name, colour) in enumerate(zip(case.structures, case.colours, strict=True)):
        at = start + n * _LINE_PX
        draw.rectangle((3, at + 2, 12, at + 11), fill=COLOURS[colour], outline=_INK)
        draw.text((17, at), name, fill=_INK, font=font)
    note = f"below: saliency of '{case.structures[0]}', its reference outlined"
    for n, line in enumerate(textwrap.wrap(note, 26)):
        draw.text((3, y + _CELL_PX + _GAP_PX + n * _LINE_PX), line, fill=_INK, font=font)


def cell(picture: Picture) -> Image.Image:
    """Fit a picture into a square cell, its proportions kept."""
    image = Image.fromarray(picture)
    scale = _CELL_PX / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    cell = Image.new("RGB", (_CELL_PX, _CELL_PX), "black")
    cell.paste(image.resize(size), ((_CELL_PX - size[0]) // 2, (_CELL_PX - size[1]) // 2))
    return cell


def grey_levels(image: Tensor) -> Picture:
    """(H, W) in [0, 1] to 0..255."""
    values: Picture = (image.float().clamp(0, 1) * 255).round().byte().numpy()
    return values
