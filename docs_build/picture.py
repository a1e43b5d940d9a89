"""The picture of the README: words, image, saliency and mask of a trained model, as one SVG without any other file.

`make picture` draws `docs/picture.svg` with the model and the phantom of `make train EXP=phantom_cehnc`. Nothing is
chosen by its result: each row is the first picture of the phantom's test split that shows the structure.
"""

import argparse
import base64
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

import medzeroseg
from medzeroseg.colours import COLOURS
from medzeroseg.errors import ConfigurationError, MedZeroSegError
from medzeroseg.figures.painting import cell_edges, heat
from medzeroseg.files import write_atomically
from medzeroseg.metrics.segmentation import overlap_scores

# kind of picture in the phantom -> key of the prompts' templates, words, structures of the label map that they mean
ASKED = {
    "cardiac_mri": ("cardiac MRI", "left ventricle", ("left ventricle",)),
    "abdomen_ct": ("abdominal CT", "liver", ("liver",)),
    "chest_xray": ("chest X-ray", "lungs", ("left lung", "right lung")),
}
_LEAST_PX = 100  # a structure of fewer pixels in the picture is not shown by it
_PANEL, _GAP, _WORDS, _TOP, _FOOT = 150, 14, 190, 34, 46  # lengths in the SVG's units

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Row:
    """What a row shows.

    Attributes:
        modality: Key of the prompts' templates.
        words: What was asked for.
        grey: (H, W) uint8.
        saliency: (H, W, 3) uint8, in the colours of `heat`.
        mask: (H, W), what was found.
        reference: (H, W), the truth, which only this drawing uses.
        dice: Of the mask, 0..1.
    """

    modality: str
    words: str
    grey: npt.NDArray[np.uint8]
    saliency: npt.NDArray[np.uint8]
    mask: Mask
    reference: Mask
    dice: float


def find_rows(data: Path, checkpoint: Path) -> list[Row]:
    """Segment the first test picture of each kind that shows the structure asked for.

    Args:
        data: A phantom in ROCO's layout.
        checkpoint: Of a contrastive training.

    Returns:
        A row for each kind of which there is such a picture.

    Raises:
        ConfigurationError: There is no phantom, or none of its pictures shows a structure.
        MedZeroSegError: The checkpoint is not usable.
    """
    truth_file = data / "ground_truth/test/structures.json"
    if not truth_file.is_file():
        raise ConfigurationError(f"There is no phantom in {data}. Make it: make phantom ARGS='--out {data}'")
    truth = json.loads(truth_file.read_text(encoding="utf-8"))
    rows: dict[str, Row] = {}
    for case, item in truth["items"].items():
        kind = item["modality"]
        modality, words, names = ASKED[kind]
        if kind in rows:
            continue
        parts = truth["structures"][kind].values()
        ids = [one["index"] for one in parts if one["name"] in names or one["part_of"] in names]
        reference = np.isin(np.asarray(Image.open(data / f"ground_truth/test/masks/{case}.png")), ids)
        if reference.sum() < _LEAST_PX:
            continue
        picture = data / f"data/test/radiology/images/{case}.jpg"
        [result] = medzeroseg.segment(picture, words, checkpoint=checkpoint, modality=modality, device="cpu")
        mask = result.view_labels[0] > 0
        dice, _ = overlap_scores(torch.from_numpy(mask)[None], torch.from_numpy(reference)[None])
        rows[kind] = Row(
            modality,
            words,
            np.rint(result.view.grey[0] * 255).astype(np.uint8),
            heat(torch.from_numpy(result.view_saliency(1)[0])),
            mask,
            reference,
            float(dice[0]),
        )
    if not rows:
        asked = " or ".join(words for _, words, _ in ASKED.values())
        raise ConfigurationError(f"No test picture of the phantom in {data} shows {asked}; make one with more pictures")
    return [rows[kind] for kind in ASKED if kind in rows]


def draw(rows: list[Row]) -> str:
    """The rows as the text of an SVG file; equal rows give equal text."""
    columns = [_GAP, _WORDS + _GAP, *(_WORDS + _GAP + n * (_PANEL + _GAP) for n in (1, 2))]
    width, height = columns[-1] + _PANEL + _GAP, _TOP + len(rows) * (_PANEL + _GAP) + _FOOT
    label = "; ".join(f"{row.words}: DSC {row.dice:.2f}" for row in rows)
    svg = ElementTree.Element(
        "svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width} {height}", width=str(width), role="img"
    )
    ElementTree.SubElement(svg, "title").text = f"Words, image, saliency and mask ({label})"
    ElementTree.SubElement(svg, "rect", width=str(width), height=str(height), rx="8", fill="white")
    for x, heading in zip(columns, ("you type", "the picture", "where it answers", "the mask"), strict=True):
        _write(svg, x, 22, heading, 13, "#555")
    for number, row in enumerate(rows):
        y = _TOP + number * (_PANEL + _GAP)
        _write(svg, columns[0], y + _PANEL // 2 - 6, f"--text “{row.words}”", 15, "black")
        _write(svg, columns[0], y + _PANEL // 2 + 16, f"--modality “{row.modality}”", 12, "#555")
        frame = f"0 0 {row.grey.shape[1]} {row.grey.shape[0]}"
        for x, raster in zip(columns[1:], (row.grey, row.saliency, row.grey), strict=True):
            panel = ElementTree.SubElement(
                svg, "svg", x=str(x), y=str(y), width=str(_PANEL), height=str(_PANEL), viewBox=frame
            )
            if x == columns[-1]:
                ElementTree.SubElement(panel, "use", href=f"#picture{number}")
                _lay_over(panel, row)
                _write(svg, x + 6, y + _PANEL - 7, f"DSC {row.dice:.2f}", 12, "white")
                continue
            placed = {"href": _as_data(raster), "width": str(row.grey.shape[1]), "height": str(row.grey.shape[0])}
            if raster is row.grey:
                placed["id"] = f"picture{number}"
            ElementTree.SubElement(panel, "image", placed)
    _write(svg, columns[0], height - 28, _SOURCE[0], 11, "#555")
    _write(svg, columns[0], height - 12, _SOURCE[1], 11, "#555")
    ElementTree.indent(svg, " ")
    return ElementTree.tostring(svg, encoding="unicode") + "\n"


_SOURCE = (
    "Synthetic pictures, test split, the first of each kind that shows the structure; the small model that",
    "make train EXP=phantom_cehnc trains. White line: the reference, which only this drawing knows.",
)


def _lay_over(panel: ElementTree.Element, row: Row) -> None:
    """The mask as one filled path, a rectangle for each run of a line, and the reference's edge in white."""
    padded = np.pad(row.mask.astype(np.int8), ((0, 0), (1, 1)))
    changes = np.diff(padded, axis=1)
    starts, ends = np.argwhere(changes == 1), np.argwhere(changes == -1)  # both in the order of lines
    runs = "".join(f"M{x} {y}h{end - x}v1h{x - end}z" for (y, x), (_, end) in zip(starts, ends, strict=True))
    colour = "rgb({},{},{})".format(*COLOURS[0])
    ElementTree.SubElement(panel, "path", {"d": runs, "fill": colour, "fill-opacity": "0.6"})
    xs, ys = (values.reshape(-1, 3)[:, :2] + 0.5 for values in cell_edges(row.reference))
    lines = "".join(f"M{x[0]:g} {y[0]:g}L{x[1]:g} {y[1]:g}" for x, y in zip(xs, ys, strict=True))
    ElementTree.SubElement(panel, "path", {"d": lines, "stroke": "white", "stroke-width": "0.8", "fill": "none"})


def _as_data(raster: npt.NDArray[np.uint8]) -> str:
    image = Image.fromarray(raster)
    if raster.ndim == 3:  # one scale of colours needs no more than a palette
        image = image.quantize(64)
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _write(parent: ElementTree.Element, x: int, y: int, text: str, size: int, colour: str) -> None:
    style = f"font-family: sans-serif; font-size: {size}px"
    if colour == "white":  # over a picture: readable on bright places, too
        style += "; paint-order: stroke; stroke: black; stroke-width: 3px"
    ElementTree.SubElement(parent, "text", x=str(x), y=str(y), style=style, fill=colour).text = text


def main() -> int:
    """Draw the picture that the arguments describe."""
    parser = argparse.ArgumentParser(prog="python -m docs_build.picture", description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/phantom_cehnc/seed_0/checkpoints/best.ckpt"))
    parser.add_argument("--data", type=Path, default=Path("data/phantom"), help="the phantom (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/picture.svg"), help="file to write (%(default)s)")
    args = parser.parse_args()
    try:
        text = draw(find_rows(args.data, args.checkpoint))
        write_atomically(args.out, text)
    except MedZeroSegError as error:
        sys.stderr.write(f"picture: {error}\n")
        return error.exit_code
    sys.stdout.write(f"{args.out}: {len(text) / 1000:.0f} kB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
