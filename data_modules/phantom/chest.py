"""Frontal chest X-ray: a projection, so tissues add up; bright is dense, the patient's right on the left.

Intensities are attenuations, about 0 (air) to 1.2.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from data_modules.phantom.anatomy import Anatomy, Factor, Facts, Scene, Structure
from data_modules.phantom.canvas import Canvas
from data_modules.phantom.degradation import blur, photon_noise, smooth_field
from data_modules.phantom.geometry import (
    Blob,
    FloatImage,
    Grid,
    LabelImage,
    coverage,
    lines,
    make_grid,
    random_blob,
)
from data_modules.phantom.randomness import Streams

SIDES = {"right": -1, "left": 1}
"""Direction of the patient's sides in the picture."""

ZONES = ("upper", "middle", "lower")

_ZONE_WEIGHTS = {"absent": 3, "upper": 1, "middle": 1, "lower": 1}


@dataclass(frozen=True, eq=False)
class Lung:
    """One lung above its diaphragm.

    Args:
        cover: Coverage, shape `(H, W)`.
        top: Apex, in normalised units.
        bottom: Lowest point (the costophrenic angle).
        x: Middle of the lung.
        base: Height of the diaphragm at its dome.
    """

    cover: FloatImage
    top: float
    bottom: float
    x: float
    base: float


class ChestXRay(Anatomy):
    """Frontal radiographs of the chest with opacities by side and zone."""

    name: ClassVar[str] = "chest_xray"
    structures: ClassVar[tuple[Structure, ...]] = (
        Structure(1, "right lung"),
        Structure(2, "left lung"),
        Structure(3, "heart"),
        Structure(4, "right lung opacity", part_of="right lung"),
        Structure(5, "left lung opacity", part_of="left lung"),
        Structure(6, "right pleural effusion", part_of="right lung"),
        Structure(7, "left pleural effusion", part_of="left lung"),
        Structure(8, "pacemaker"),
        Structure(9, "endotracheal tube"),
        Structure(10, "central venous catheter"),
        Structure(11, "clavicles"),
        Structure(12, "spine"),
    )
    factors: ClassVar[tuple[Factor, ...]] = (
        Factor("right opacity", _ZONE_WEIGHTS, "absent"),
        Factor("left opacity", _ZONE_WEIGHTS, "absent"),
        Factor("opacity kind", {"consolidation": 1, "ground-glass": 1, "mass": 1}, None),
        Factor("pleural effusion", {"absent": 3, "right": 1, "left": 1, "bilateral": 1}, "absent"),
        Factor("heart", {"normal": 1, "enlarged": 1}, "normal"),
        Factor(
            "device",
            {"none": 2, "pacemaker": 1, "endotracheal tube": 1, "central venous catheter": 1},
            "none",
        ),
        Factor("lung volume", {"normal": 2, "low": 1, "hyperinflated": 1}, "normal", contrasts=False),
        Factor("diaphragm", {"normal": 2, "right raised": 1, "left raised": 1}, "normal"),
        Factor("spine", {"straight": 2, "scoliosis": 1}, "straight"),
        Factor("artefact", {"none": 4, "noise": 1}, "none", changes_labels=False, contrasts=False),
    )

    def valid(self, facts: Facts) -> bool:
        """An effusion hides the base of its lung, and flat diaphragms are not raised ones."""
        for side in SIDES:
            if facts["pleural effusion"] in (side, "bilateral") and (
                facts[f"{side} opacity"] == "lower" or facts["diaphragm"] == f"{side} raised"
            ):
                return False
        unusual_volume = facts["lung volume"] != "normal"
        if unusual_volume and facts["pleural effusion"] == "bilateral":
            return False
        return facts["lung volume"] != "hyperinflated" or facts["diaphragm"] == "normal"

    def applies(self, factor: str, facts: Facts) -> bool:
        """Opacities have a kind only where there are some."""
        return factor != "opacity kind" or any(facts[f"{side} opacity"] != "absent" for side in SIDES)

    def draw(self, facts: Facts, streams: Streams, size_px: int) -> Scene:
        """Draw a radiograph (see `Anatomy.draw`)."""
        grid = make_grid(size_px)
        canvas = Canvas(grid, 0.0)
        self._draw_body(canvas, streams)
        lungs = {name: _lung(grid, facts, streams, name) for name in SIDES}
        for name, lung in lungs.items():
            self._draw_lung(canvas, streams, name, lung)
        self._draw_vessels(canvas, streams, lungs)
        spine = self._draw_bones(canvas, facts, streams)
        self._draw_mediastinum(canvas, facts, streams, lungs)
        canvas.labels[(spine >= 0.5) & (canvas.labels == 0)] = self.index_of("spine")
        for name, lung in lungs.items():
            self._draw_opacity(canvas, facts, streams, name, lung)
            if facts["pleural effusion"] in (name, "bilateral"):
                self._draw_effusion(canvas, streams, name, lung)
        self._draw_device(canvas, facts, streams)
        return Scene(canvas.image, canvas.labels, dict(facts))

    def acquire(self, scene: Scene, streams: Streams) -> LabelImage:
        """Apply focal blur, quantum noise and the display curve (see `Anatomy.acquire`)."""
        grid = make_grid(scene.image.shape[0])
        rng = streams("exposure")
        image = blur(scene.image, grid, 0.007)
        image = image * np.float32(rng.uniform(0.94, 1.06))
        noise = 0.048 if scene.facts["artefact"] == "noise" else 0.010
        image = image + photon_noise(streams("noise"), image, noise)
        curve = np.clip(image / np.float32(1.12), 0, 1) ** np.float32(rng.uniform(0.9, 1.15))
        return np.asarray(curve * 250, np.uint8)

    def _draw_body(self, canvas: Canvas, streams: Streams) -> None:
        grid = canvas.grid
        rng = streams("body")
        trunk = coverage(grid, random_blob(rng, 0, 0.55, 0.94, 1.25, wobble=0.015), 0.10)
        shoulders = coverage(grid, random_blob(rng, 0, -0.27, 1.15, 0.52, wobble=0.015), 0.08)
        neck = coverage(grid, Blob(0, -0.85, 0.30, 0.45), 0.10)
        canvas.add(np.maximum.reduce([trunk, shoulders, neck]), 0.60)
        canvas.add(coverage(grid, Blob(0, 0.3, 0.70, 1.5), 0.7), 0.10)
        abdomen = np.clip((grid.y - 0.30) / 0.6, 0, 1)
        canvas.add(trunk * abdomen, 0.24)
        if rng.random() < 0.4:  # breast shadows, a variation that no caption speaks of
            for side in SIDES.values():
                canvas.add(coverage(grid, Blob(0.50 * side, 0.32, 0.30, 0.26), 0.12), 0.07)

    def _draw_lung(self, canvas: Canvas, streams: Streams, name: str, lung: Lung) -> None:
        grid = canvas.grid
        side = SIDES[name]
        rng = streams(f"{name} lung")
        middle = 0.5 * (lung.top + lung.bottom)
        depth = coverage(grid, Blob(lung.x, middle, 0.40, 0.5 * (lung.bottom - lung.top) + 0.1), 0.5)
        canvas.add(lung.cover, -0.30 - 0.16 * depth, self.index_of(f"{name} lung"))
        hilum = coverage(grid, Blob(0.19 * side, 0.02, 0.08, 0.12), 0.08)
        canvas.add(hilum * lung.cover, 0.12)
        canvas.add(lung.cover, smooth_field(rng, grid, 16, 8) * np.float32(0.012))

    def _draw_vessels(self, canvas: Canvas, streams: Streams, lungs: dict[str, Lung]) -> None:
        """Pulmonary vessels that fan out from the hila and taper."""
        grid = canvas.grid
        paths, widths = [], []
        steps = np.linspace(0, 1, 5)
        for name, side in SIDES.items():
            rng = streams(f"{name} vessels")
            for angle in np.linspace(-1.25, 1.35, 8) + rng.uniform(-0.15, 0.15, 8):
                length, bend = float(rng.uniform(0.3, 0.5)), float(rng.uniform(-0.25, 0.25))
                x = 0.16 * side + side * length * steps * np.cos(angle + bend * steps)
                y = 0.02 + 1.3 * length * steps * np.sin(angle + bend * steps)
                points = _path(x, y)
                paths += [points[:3], points[2:]]
                widths += [0.024, 0.014]
        vessels = blur(lines(grid, paths, widths), grid, 0.008)
        canvas.add(vessels * np.maximum(lungs["right"].cover, lungs["left"].cover), 0.14)

    def _draw_bones(self, canvas: Canvas, facts: Facts, streams: Streams) -> FloatImage:
        """Draw ribs, clavicles and spine; return the coverage of the spine."""
        grid = canvas.grid
        rng = streams("ribs")
        tilt = float(rng.uniform(-0.02, 0.02))
        paths, widths = [], []
        steps = np.linspace(0, 1, 7)
        for side in SIDES.values():
            for level in range(9):
                y0 = -0.66 + 0.145 * level + tilt
                reach = 0.66 * float(np.sqrt(max(1 - ((y0 - 0.25) / 1.08) ** 2, 0.1))) + 0.05
                x = side * (0.07 + (reach - 0.07) * np.sin(steps * np.pi / 2))
                y = y0 - 0.05 * np.sin(steps * np.pi) + (0.11 + 0.012 * level) * steps**2.2
                paths.append(_path(x, y))
                widths.append(0.040)
                if level < 6:  # the anterior part runs back towards the sternum, lower and fainter
                    x = side * (reach - (reach - 0.30) * steps)
                    y = y[-1] + 0.17 * steps
                    paths.append(_path(x, y))
                    widths.append(0.026)
        canvas.add(blur(lines(grid, paths, widths), grid, 0.008), 0.085)
        clavicles = []
        rise = float(streams("clavicles").uniform(0.02, 0.08))
        for side in SIDES.values():
            x = np.array([0.09, 0.28, 0.48, 0.72]) * side
            y = np.array([-0.53, -0.58, -0.60 - 0.5 * rise, -0.60 - rise])
            clavicles.append(_path(x, y))
        collar = lines(grid, clavicles, [0.055, 0.055])
        canvas.add(collar, 0.12)
        canvas.mark(collar * (canvas.labels == 0), self.index_of("clavicles"))  # lungs stay whole
        bend = 0.13 if facts["spine"] == "scoliosis" else 0.0
        rows = grid.y
        middle = np.float32(bend) * np.sin((rows + 0.1) * np.float32(2.9))
        spine = np.clip(0.5 + (0.085 - np.abs(grid.x - middle)) / np.float32(0.03), 0, 1)
        discs = np.float32(0.85) + np.float32(0.15) * np.cos(rows * np.float32(44))
        canvas.add(spine * discs, 0.15)
        return np.asarray(spine, np.float32)

    def _draw_mediastinum(self, canvas: Canvas, facts: Facts, streams: Streams, lungs: dict[str, Lung]) -> None:
        grid = canvas.grid
        rng = streams("heart")
        rx, ry = (0.45, 0.33) if facts["heart"] == "enlarged" else (0.265, 0.255)
        # The heart rests on the diaphragm; what would lie below it is drowned in the shadow of the abdomen.
        floor = 0.5 * (lungs["right"].base + lungs["left"].base)
        centre = floor - 0.62 * ry + 0.06
        heart = random_blob(rng, 0.11 if rx < 0.3 else 0.13, centre, rx, ry, tilt_rad=0.35, wobble=0.03)
        above = np.clip(0.5 + (floor + 0.06 - grid.y) / 0.08, 0, 1)
        upper = coverage(grid, random_blob(rng, 0.0, -0.28, 0.13, 0.50, wobble=0.05), 0.04)
        knob = coverage(grid, Blob(0.11, -0.26, 0.085, 0.085), 0.03)
        shadow = np.maximum(upper, knob)
        lung = np.maximum(lungs["right"].cover, lungs["left"].cover)
        whole = coverage(grid, heart, 0.03)
        # Where lung was, the mediastinum replaces most of it; elsewhere it adds a little.
        both = np.maximum(whole * above, shadow)
        canvas.image += both * (np.float32(0.08) + lung * np.float32(0.33))
        trachea = coverage(grid, Blob(0.0, -0.62, 0.045, 0.33), 0.03)
        canvas.add(trachea, -0.13)
        canvas.mark(shadow, 0)
        canvas.mark(whole * above, self.index_of("heart"))

    def _draw_opacity(self, canvas: Canvas, facts: Facts, streams: Streams, name: str, lung: Lung) -> None:
        zone = facts[f"{name} opacity"]
        grid = canvas.grid
        rng = streams(f"{name} opacity")
        if zone == "absent":
            return
        heart = canvas.labels == self.index_of("heart")
        aerated = lung.cover * (1 - np.float32(0.8) * heart)  # what lies behind the heart hardly shows
        third = (lung.bottom - lung.top) / 3
        top = lung.top + ZONES.index(zone) * third
        band = aerated * ((grid.y >= top) & (grid.y <= top + third))
        x, y = (float((band * axis).sum() / band.sum()) for axis in (grid.x, grid.y))
        if facts["opacity kind"] == "mass":
            blob = random_blob(rng, x, y, 0.095, 0.095, wobble=0.03, jitter=0.015)
            cover = coverage(grid, blob, 0.02) * aerated
            canvas.add(cover, 0.38)
        elif facts["opacity kind"] == "consolidation":
            blob = random_blob(rng, x, y, 0.20, 0.47 * third, wobble=0.10, jitter=0.015)
            cover = coverage(grid, blob, 0.10) * aerated
            canvas.add(cover, 0.40)
        else:
            blob = random_blob(rng, x, y, 0.21, 0.47 * third, wobble=0.08, jitter=0.015)
            cover = coverage(grid, blob, 0.12) * aerated
            patches = np.clip(0.5 + 0.5 * smooth_field(rng, grid, 9, 10), 0, 1)
            canvas.add(cover * (np.float32(0.2) + patches * np.float32(0.8)), 0.27)
        canvas.labels[(cover >= 0.5) & ~heart] = self.index_of(f"{name} lung opacity")

    def _draw_effusion(self, canvas: Canvas, streams: Streams, name: str, lung: Lung) -> None:
        """Fluid in the base of the lung with a meniscus that climbs the chest wall."""
        grid = canvas.grid
        side = SIDES[name]
        rng = streams(f"{name} effusion")
        level = lung.bottom - float(rng.uniform(0.36, 0.44)) * (lung.bottom - lung.top)
        climb = np.clip((grid.x - lung.x) * side / 0.30, -1, 1)
        surface = level - np.float32(0.14) * np.sign(climb) * climb**2
        cover = np.clip(0.5 + (grid.y - surface) / np.float32(0.05), 0, 1) * lung.cover
        heart = canvas.labels == self.index_of("heart")
        canvas.add(cover * (1 - np.float32(0.75) * heart), 0.42)
        canvas.labels[(cover >= 0.5) & ~heart] = self.index_of(f"{name} pleural effusion")

    def _draw_device(self, canvas: Canvas, facts: Facts, streams: Streams) -> None:
        grid = canvas.grid
        rng = streams("device")
        dx, dy = (float(v) for v in rng.uniform(-0.03, 0.03, 2))
        device = facts["device"]
        if device == "pacemaker":
            x, y = 0.52 + dx, -0.44 + dy
            lead = [
                (x - 0.06, y - 0.06),
                (0.30, -0.58),
                (0.06, -0.48),
                (-0.07, -0.20),
                (-0.08, 0.15),
                (0.14, 0.36),
            ]
            canvas.add(lines(grid, [lead], [0.020]), 0.45, self.index_of("pacemaker"))
            case = coverage(grid, Blob(x, y, 0.12, 0.10, 0.3))
            canvas.paint(case, 1.15, self.index_of("pacemaker"))
            canvas.add(coverage(grid, Blob(x, y, 0.07, 0.055, 0.3)), -0.10)
        elif device == "endotracheal tube":
            path = [(dx, -1.0), (0.3 * dx, -0.6), (0.0, -0.30 + dy)]
            canvas.add(lines(grid, [path], [0.034]), 0.38, self.index_of("endotracheal tube"))
        elif device == "central venous catheter":
            path = [
                (-0.30 + dx, -1.0),
                (-0.24 + dx, -0.70),
                (-0.15, -0.46),
                (-0.11, -0.25),
                (-0.10, 0.06 + dy),
            ]
            canvas.add(lines(grid, [path], [0.024]), 0.42, self.index_of("central venous catheter"))


def _lung(grid: Grid, facts: Facts, streams: Streams, name: str) -> Lung:
    side = SIDES[name]
    rng = streams(f"{name} thorax")
    base = {"low": 0.34, "normal": 0.56, "hyperinflated": 0.76}[facts["lung volume"]]
    base += 0.0 if name == "left" else -0.05  # the liver lifts the right dome
    curve = {"low": 2.1, "normal": 1.7, "hyperinflated": 0.5}[facts["lung volume"]]
    if facts["diaphragm"] == f"{name} raised":
        base -= 0.27
    base += 0.02 * float(rng.uniform(-1, 1))
    x = 0.40 * side
    top = -0.72
    thorax = random_blob(rng, x, 0.10, 0.315, 0.83, tilt_rad=-0.10 * side, wobble=0.025, jitter=0.012)
    dome = np.float32(base) + np.float32(curve) * (grid.x - np.float32(x - 0.06 * side)) ** 2
    above = np.clip(0.5 + (dome - grid.y) / np.float32(max(0.02, grid.pixel)), 0, 1)
    cover = coverage(grid, thorax, 0.025) * above
    rows = np.flatnonzero((cover >= 0.5).any(axis=1))
    bottom = float(grid.axis[rows[-1]]) if rows.size else base
    top = float(grid.axis[rows[0]]) if rows.size else top
    return Lung(cover, top, bottom, x, base)


def _path(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[tuple[float, float]]:
    return list(zip(x.tolist(), y.tolist(), strict=True))
