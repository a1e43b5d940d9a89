"""The upper abdomen as a volume in Hounsfield units: the 13 organs of BTCV, slice by slice.

Attenuations, order of painting and pose are those of `abdomen`'s slices, so a slice at the level of the kidneys
looks as those do.
"""

from dataclasses import dataclass

import numpy as np

from data_modules.phantom import abdomen_solids as solids
from data_modules.phantom.abdomen import AIR, BILE, FAT, GAS, MUSCLE
from data_modules.phantom.abdomen_frame import paint_bowel, paint_chest, paint_spine, paint_wall
from data_modules.phantom.abdomen_person import Person
from data_modules.phantom.canvas import Canvas
from data_modules.phantom.geometry import Blob, FloatImage, Grid, coverage, half_plane, make_grid

BTCV_LABELS = {
    1: "spleen", 2: "right kidney", 3: "left kidney", 4: "gallbladder", 5: "esophagus", 6: "liver", 7: "stomach",
    8: "aorta", 9: "inferior vena cava", 10: "portal vein and splenic vein", 11: "pancreas",
    12: "right adrenal gland", 13: "left adrenal gland",
}  # fmt: skip
"""The label convention of the raw data set."""

_LABEL = {name: index for index, name in BTCV_LABELS.items()}

ADRENAL, GUT_WALL, GUT_FLUID = 72.0, 55.0, 14.0


@dataclass(frozen=True, eq=False)
class _Slice:
    """What the organs of a slice are drawn on and with.

    Args:
        canvas: Picture and labels.
        z: Height in half fields of view above the hila of the kidneys.
        person: Whose slice it is.
        texture: Fine variation of the tissues in HU, shape `(H, W)`.
        room: Coverage of the space below the diaphragm, shape `(H, W)`.
    """

    canvas: Canvas
    z: float
    person: Person
    texture: FloatImage
    room: FloatImage

    @property
    def grid(self) -> Grid:
        """Pixel grid."""
        return self.canvas.grid

    def cut(self, name: str, margin: float = 0.0) -> FloatImage:
        """Return the coverage of an organ, grown by `margin`, shape `(H, W)`."""
        person = self.person
        parts = [person.courses[name]] if name in person.courses else person.tubes[name]
        return np.asarray(np.maximum.reduce([part.cut(self.grid, self.z, margin) for part in parts]), np.float32)


def draw_slice(person: Person, size_px: int, z: float, *, gallbladder: bool = True) -> Canvas:
    """Draw an axial slice: row 0 is the front, column 0 the patient's right.

    Args:
        person: Whose slice.
        size_px: Width and height.
        z: Height in half fields of view above the hila of the kidneys.
        gallbladder: Whether the person still has one.

    Returns:
        Ideal picture in HU and labels as in `BTCV_LABELS`.
    """
    grid = make_grid(size_px)
    canvas = Canvas(grid, AIR)
    texture = person.texture(grid, z)
    cavity = paint_wall(canvas, person, z, texture)
    room = paint_chest(canvas, person, z, texture, cavity)
    paint_spine(canvas, person, z, texture)
    paint_bowel(canvas, person, z, room)
    slice_ = _Slice(canvas, z, person, texture, room)
    _paint_arteries(slice_)
    kidneys = np.maximum(_paint_kidney(slice_, "right"), _paint_kidney(slice_, "left"))
    _paint_pancreas(slice_)
    _paint_gut(slice_)
    spared = room * (1 - kidneys)
    canvas.paint(slice_.cut("spleen") * spared, person.organs["spleen"] + texture, _LABEL["spleen"])
    _paint_liver(slice_, spared)
    _paint_adrenals(slice_)
    _paint_veins(slice_)
    if gallbladder:
        canvas.paint(slice_.cut("gallbladder", 0.014) * room, 50.0, 0)
        canvas.paint(slice_.cut("gallbladder") * room, BILE, _LABEL["gallbladder"])
    return canvas


def _paint_arteries(slice_: _Slice) -> None:
    """Paint the aorta, and the vessels of the bowel, which have no label."""
    canvas, organs = slice_.canvas, slice_.person.organs
    canvas.paint(slice_.cut("aorta", 0.012), MUSCLE, 0)
    canvas.paint(slice_.cut("aorta"), organs["aorta"], _LABEL["aorta"])
    for tube, value in (
        (solids.MESENTERIC_VEIN, organs["inferior vena cava"]),
        (solids.MESENTERIC_ARTERY, organs["aorta"]),
    ):
        canvas.paint(tube.cut(slice_.grid, slice_.z) * slice_.room, value, 0)


def _paint_veins(slice_: _Slice) -> None:
    value = slice_.person.organs["inferior vena cava"]
    slice_.canvas.paint(slice_.cut("inferior vena cava"), value, _LABEL["inferior vena cava"])
    name = "portal vein and splenic vein"
    slice_.canvas.paint(slice_.cut(name) * slice_.room, value + 8, _LABEL[name])


def _paint_kidney(slice_: _Slice, side: str) -> FloatImage:
    """Paint a kidney in its fat; return the coverage that no other organ may take."""
    canvas, grid, person = slice_.canvas, slice_.grid, slice_.person
    course = person.courses[f"{side} kidney"]
    kidney = course.at(slice_.z)
    if kidney is None or kidney.rx < 0.02:
        return grid.zeros()
    bed = coverage(grid, kidney.grown(0.035)) * slice_.room
    canvas.paint(bed, FAT + slice_.texture)
    whole = coverage(grid, kidney)
    canvas.paint(whole, person.organs["renal cortex"] + slice_.texture, _LABEL[f"{side} kidney"])
    pyramids = kidney.grown(-0.045)
    if min(pyramids.rx, pyramids.ry) > 0.02:
        canvas.paint(coverage(grid, pyramids, 0.03), person.organs["renal medulla"] + slice_.texture)
    low, high = course.ends
    depth = 1 - (abs(slice_.z - 0.5 * (low + high)) / 0.14) ** 2
    if depth > 0.05:  # the sinus: fat that opens towards the spine
        sign, share = (1 if side == "left" else -1), float(np.sqrt(depth))
        sinus = Blob(kidney.x - 0.055 * sign, kidney.y - 0.02, 0.062 * share, 0.045 * share, kidney.tilt_rad)
        canvas.paint(coverage(grid, sinus), -60.0)
    return bed


def _paint_pancreas(slice_: _Slice) -> None:
    free = slice_.room * (slice_.canvas.labels == 0)
    slice_.canvas.paint(slice_.cut("pancreas", 0.03) * free, FAT)
    value = slice_.person.organs["pancreas"] + 2 * slice_.texture
    slice_.canvas.paint(slice_.cut("pancreas") * free, value, _LABEL["pancreas"])


def _paint_gut(slice_: _Slice) -> None:
    """Paint the esophagus, and the stomach with a fluid level that is the same in all slices."""
    canvas = slice_.canvas
    canvas.paint(slice_.cut("esophagus"), GUT_WALL, _LABEL["esophagus"])
    canvas.paint(slice_.cut("esophagus", -0.03), 20.0)
    free = slice_.room * (1 - slice_.cut("pancreas", 0.015))
    canvas.paint(slice_.cut("stomach", 0.02) * free, 60.0, _LABEL["stomach"])
    lumen = slice_.cut("stomach", -0.008) * free
    canvas.paint(lumen, GUT_FLUID)
    level = float(slice_.person.streams("stomach filling").uniform(-0.44, -0.24))
    canvas.paint(lumen * half_plane(slice_.grid, 0.0, level, -np.pi / 2), GAS)


def _paint_liver(slice_: _Slice, spared: FloatImage) -> None:
    canvas, organs = slice_.canvas, slice_.person.organs
    cover = np.maximum(slice_.cut("right lobe"), slice_.cut("left lobe")) * spared
    canvas.paint(cover, organs["liver"] + slice_.texture, _LABEL["liver"])
    for tube in slice_.person.hepatic_veins:
        canvas.add(tube.cut(slice_.grid, slice_.z) * cover, 0.35 * (organs["inferior vena cava"] - 45))


def _paint_adrenals(slice_: _Slice) -> None:
    for name in ("right adrenal gland", "left adrenal gland"):
        slice_.canvas.paint(slice_.cut(name, 0.018) * slice_.room, FAT, 0)
        slice_.canvas.paint(slice_.cut(name) * slice_.room, ADRENAL, _LABEL[name])
