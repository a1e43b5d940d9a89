"""The overlay picture: masks over the image, in colours that any colour vision tells apart, with a legend."""

import textwrap

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from medzeroseg.colours import COLOURS
from medzeroseg.inference.results import LabelResult, SegmentationResult

_OPACITY, _INK, _MUTED = 0.4, (0, 0, 0), (90, 90, 90)
_LEAST_PX, _MOST_PX, _GAP_PX, _LEGEND_PX, _LINE_PX, _COLUMNS = 384, 1024, 8, 260, 18, 3
_NUMBER_PX = 14

Picture = npt.NDArray[np.uint8]


def draw_overlay(result: SegmentationResult) -> Image.Image:
    """Draw a picture with its masks; of a volume, for each label the slice that holds most of it.

    Args:
        result: What was found. Where nothing was, the middle slice is shown bare.

    Returns:
        RGB, panels left, legend right. It holds no text of a header.
    """
    depth = len(result.view_labels)
    slices = sorted({label.largest_slice for label in result.labels if label.largest_slice is not None})
    slices = slices or [depth // 2]
    panels = [draw_panel(result, number) for number in slices]
    columns = min(len(panels), _COLUMNS)
    width, height = panels[0].size
    title = _LINE_PX if depth > 1 else 0
    rows = -(-len(panels) // columns)
    legend = _legend_lines(result.labels)
    size = (
        columns * (width + _GAP_PX) + _LEGEND_PX,
        max(rows * (height + title + _GAP_PX), (len(legend) + 1) * _LINE_PX),
    )
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for place, (number, panel) in enumerate(zip(slices, panels, strict=True)):
        x, y = place % columns * (width + _GAP_PX), place // columns * (height + title + _GAP_PX)
        if title:
            draw.text((x + 2, y), f"slice {number + 1} of {depth} ({result.view.plane})", fill=_INK, font=font)
        sheet.paste(panel, (x, y + title))
    x = columns * (width + _GAP_PX) + 4
    for place, (text, colour, muted) in enumerate(legend):
        y = _GAP_PX + place * _LINE_PX
        if colour is not None:
            draw.rectangle((x, y + 2, x + 12, y + 14), fill=colour, outline=_INK)
        draw.text((x + 18, y), text, fill=_MUTED if muted else _INK, font=font)
    return sheet


def draw_slice(result: SegmentationResult, number: int) -> Image.Image:
    """One slice at screen size without masks: RGB, its proportions those of the patient."""
    volume = result.view.volume
    spacing = volume.spacing_mm or (1.0, 1.0, 1.0)
    stretch = spacing[1] / spacing[2] if np.isfinite(spacing[1:]).all() else 1.0
    height, width = volume.shape[1] * stretch, float(volume.shape[2])
    scale = min(max(_LEAST_PX / max(height, width), 1.0), _MOST_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = np.rint(result.view.grey[number] * 255).astype(np.uint8)
    base = Image.fromarray(grey).convert("RGB") if volume.rgb is None else Image.fromarray(volume.rgb[number].copy())
    return base.resize(size, Image.Resampling.BILINEAR)


def draw_panel(result: SegmentationResult, number: int) -> Image.Image:
    """One slice at screen size with its masks, its proportions those of the patient."""
    base = draw_slice(result, number)
    size = base.size
    picture = np.asarray(base).astype(np.float32)
    ids = np.asarray(
        Image.fromarray(np.ascontiguousarray(result.view_labels[number])).resize(size, Image.Resampling.NEAREST)
    )
    for label in result.labels:  # a few labels
        inside = ids == label.label
        if inside.any():
            colour = np.array(colour_of(label), np.float32)
            picture[inside] = (1 - _OPACITY) * picture[inside] + _OPACITY * colour
            picture[inside & ~ndimage.binary_erosion(inside, iterations=2)] = colour
    panel = Image.fromarray(picture.round().astype(np.uint8))
    _number_masks(panel, ids, result.labels)
    return panel


def _number_masks(panel: Image.Image, ids: Picture, labels: tuple[LabelResult, ...]) -> None:
    """Write each label's number where its mask is deepest."""
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default(size=_NUMBER_PX)
    for label in labels:
        inside = ids == label.label
        if inside.any():
            depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
            row, column = np.unravel_index(int(depth.argmax()), depth.shape)
            x, y = (  # whole within the panel
                min(max(int(at), _NUMBER_PX), side - _NUMBER_PX)
                for at, side in zip((column, row), panel.size, strict=True)
            )
            draw.text(
                (x, y),
                str(label.label),
                fill="white",
                font=font,
                anchor="mm",
                stroke_width=2,
                stroke_fill=_INK,
            )


def _legend_lines(labels: tuple[LabelResult, ...]) -> list[tuple[str, tuple[int, int, int] | None, bool]]:
    """(text, colour of the box or None, whether it is muted) of each line."""
    lines: list[tuple[str, tuple[int, int, int] | None, bool]] = []
    for label in labels:
        named = textwrap.wrap(f"{label.label} {label.text}", 32)[:4]
        lines += [(text, colour_of(label) if n == 0 else None, False) for n, text in enumerate(named)]
        lines.append((measured(label) if label.found else "not found", None, True))
    return lines


def measured(label: LabelResult) -> str:
    """The size of a label in the best unit that is known."""
    if label.volume_ml is not None:
        return f"{label.volume_ml:,.1f} ml"
    if label.area_mm2 is not None:
        return f"{label.area_mm2:,.0f} mm²"
    return f"{label.voxels:,} pixels"


def colour_of(label: LabelResult) -> tuple[int, int, int]:
    """Of its masks, RGB 0..255. With more labels they come again, which is why every mask carries its number."""
    return COLOURS[(label.label - 1) % len(COLOURS)]
