"""What holds the abdominal organs in a slice of a volume: wall, ribs, spine, chest and diaphragm; and the bowel."""

from dataclasses import replace

import numpy as np

from data_modules.phantom.abdomen import CORTEX, FAT, GAS, MARROW, MUSCLE
from data_modules.phantom.abdomen_person import Person
from data_modules.phantom.canvas import Canvas
from data_modules.phantom.geometry import Blob, FloatImage, Grid, coverage, lines

LUNG, DISC = -860.0, 85.0

_VERTEBRA = 0.17  # from disc to disc
_DOME = 0.06  # above this, the diaphragm leaves the chest wall
_RIB_STEP, _RIB_DROP = 0.13, 0.29  # from rib to rib; how far a rib descends per radian on its way to the front
_RIB_ENDS_RAD = (0.7, 1.1, 2.0, 2.1, 2.1, 2.1, 2.1, 2.1, 2.1, 2.1)  # from the back; the last two ribs are short
_BACK_RAD = 0.25


def paint_wall(canvas: Canvas, person: Person, z: float, texture: FloatImage) -> FloatImage:
    """Paint skin, fat, muscle and ribs; return the coverage of the inside of the trunk."""
    grid = canvas.grid
    trunk = person.trunk(z)
    thickness = float(person.streams("fat").uniform(0.03, 0.12))
    canvas.paint(coverage(grid, trunk.grown(thickness + 0.018)), 40.0)
    canvas.paint(coverage(grid, trunk.grown(thickness)), FAT + texture)
    canvas.paint(coverage(grid, trunk), MUSCLE + texture)
    ring = trunk.grown(-0.028)
    paths = []
    phase = float(person.streams("ribs").uniform(-0.04, 0.04))
    for side in (-1, 1):
        for rib, end in enumerate(_RIB_ENDS_RAD):
            middle = (_RIB_STEP * (rib + 1) + phase - z) / _RIB_DROP
            if _BACK_RAD < middle < end:
                angles = np.pi / 2 - side * (middle + np.linspace(-0.095, 0.095, 4))
                x, y = ring.x + ring.rx * np.cos(angles), ring.y + ring.ry * np.sin(angles)
                paths.append(list(zip(x.tolist(), y.tolist(), strict=True)))
    if paths:
        canvas.paint(lines(grid, paths, [0.046] * len(paths)), CORTEX)
        canvas.paint(lines(grid, [path[1:3] for path in paths], [0.02] * len(paths)), MARROW)
    return coverage(grid, trunk.grown(-0.055))


def paint_chest(canvas: Canvas, person: Person, z: float, texture: FloatImage, cavity: FloatImage) -> FloatImage:
    """Paint lungs, heart and diaphragm; return the coverage of the room for the abdominal organs."""
    grid = canvas.grid
    trunk = person.trunk(z)
    inner = trunk.grown(-0.055)
    domes = []
    rng = person.streams("diaphragm")
    for x, y, top in ((-0.34, -0.10, 0.62), (0.34, -0.06, 0.54)):
        rise = (z - _DOME) / (top + 0.03 * float(rng.uniform(-1, 1)) - _DOME)
        share = float(np.sqrt(max(1 - max(rise, 0.0) ** 2, 0.0)))
        if share > 0.05:
            middle = (share * inner.x + (1 - share) * x, share * inner.y + (1 - share) * y)
            domes.append(replace(inner.scaled(share), x=middle[0], y=middle[1]))
    if z > _DOME:
        canvas.paint(cavity, LUNG + 3 * texture)
        canvas.add(cavity * _lung_vessels(person, grid, z), 620.0)
        fat = coverage(grid, Blob(0.04, 0.10, 0.17, 0.20)) * cavity
        canvas.paint(fat, FAT + texture)
        canvas.paint(person.courses["heart"].cut(grid, z, 0.03) * cavity, FAT + texture)
        blood = person.organs["inferior vena cava"]
        canvas.paint(person.courses["heart"].cut(grid, z) * cavity, 100.0 + texture)
        canvas.paint(person.courses["heart"].cut(grid, z, -0.07) * cavity, blood + texture)
    room = grid.zeros()
    for dome in domes:
        np.maximum(room, coverage(grid, dome), out=room)
        canvas.paint(coverage(grid, dome.grown(0.016)) * cavity, MUSCLE)
    room = room * cavity
    canvas.paint(room, FAT + 2 * texture)
    return room


def _lung_vessels(person: Person, grid: Grid, z: float) -> FloatImage:
    """Vessels that run down to the base of the lungs, spreading on their way: specks, a sum of Gaussians."""
    rng = person.streams("lung vessels")
    spread = 1 + 0.4 * (0.6 - z)
    x, y = rng.uniform(-0.6, 0.6, 46) * spread, rng.uniform(-0.5, 0.5, 46) * spread
    strength = rng.uniform(0.3, 1.0, 46).astype(np.float32)
    across = np.exp(-(((grid.x - x[:, None]) / 0.014) ** 2)).astype(np.float32)
    down = np.exp(-(((grid.y - y[None, :]) / 0.014) ** 2)).astype(np.float32)
    return np.asarray((down * strength) @ across, np.float32)


def paint_spine(canvas: Canvas, person: Person, z: float, texture: FloatImage) -> None:
    """Paint the vertebrae with their discs, the muscles beside them and the crura of the diaphragm."""
    grid = canvas.grid
    rng = person.streams("spine")
    x, y = 0.01 * float(rng.uniform(-1, 1)), 0.285 - 0.03 * z
    level = (z / _VERTEBRA + float(rng.uniform())) % 1
    lower = min(max((0.24 - z) / 0.2, 0.0), 1.0)  # the psoas muscles end where the diaphragm begins
    back = [Blob(x + s * 0.22, y + 0.16, 0.21, 0.15, 0.25 * s) for s in (-1, 1)]
    if lower > 0.1:
        back += [Blob(x + s * 0.17, y - 0.01, 0.085 * lower, 0.12 * lower, 0.3 * s) for s in (-1, 1)]
    if z > -0.05:  # the crura of the diaphragm
        back += [Blob(x + 0.06 + s * 0.085, y - 0.13, 0.022, 0.065, -0.3 * s) for s in (-1, 1)]
    trunk = person.trunk(z)
    cover = np.maximum.reduce([coverage(grid, part) for part in back]) * coverage(grid, trunk)
    canvas.paint(cover, MUSCLE + 2 * texture)
    arch = [Blob(x, y + 0.18, 0.16, 0.035), Blob(x, y + 0.22, 0.028, 0.085)]
    disc = level < 0.2
    reach = 0.6 if disc else 1.0
    arch = [replace(part, rx=part.rx * reach) for part in arch]
    canvas.paint(np.maximum.reduce([coverage(grid, part) for part in arch]), CORTEX)
    body = Blob(x, y, 0.135, 0.115)
    canvas.paint(coverage(grid, body), DISC if disc else CORTEX)
    canvas.paint(coverage(grid, body.grown(-0.025)), (DISC if disc else MARROW) + 8 * texture)
    canvas.paint(coverage(grid, Blob(x, y + 0.135, 0.05, 0.038)), 25.0)


def paint_bowel(canvas: Canvas, person: Person, z: float, room: FloatImage) -> None:
    """Unnamed loops in front, and the colon at both sides of the lower slices."""
    grid = canvas.grid
    rng = person.streams("bowel")
    places = rng.uniform((-0.48, -0.45, -0.75), (0.50, -0.06, 0.04), (34, 3))
    sizes = rng.uniform(0.065, 0.10, (34, 2))
    tilts, filling = rng.uniform(-1, 1, 34), rng.uniform(10, 35, 34)
    filling[rng.random(34) < 0.15] = GAS
    for (x, y, height), (rx, ry), tilt, content in zip(
        places.tolist(), sizes.tolist(), tilts.tolist(), filling.tolist(), strict=True
    ):
        closing = float(np.sqrt(max(1 - ((z - height) / 0.09) ** 2, 0.0)))
        if closing > 0.2:
            _paint_loop(canvas, Blob(x, y, rx * closing, ry * closing, tilt), content, room)
    for x, y, top in ((-0.50, 0.06, -0.22), (0.56, 0.06, -0.06)):
        if z < top:
            wide = 0.085 + 0.02 * float(np.sin(40 * z + x))
            _paint_loop(canvas, Blob(x, y, wide, 1.15 * wide), -20.0, room)
            canvas.paint(coverage(grid, Blob(x, y - 0.4 * wide, 0.5 * wide, 0.3 * wide)) * room, GAS)


def _paint_loop(canvas: Canvas, loop: Blob, content: float, room: FloatImage) -> None:
    canvas.paint(coverage(canvas.grid, loop) * room, 48.0)
    canvas.paint(coverage(canvas.grid, loop.grown(-0.022)) * room, content)
