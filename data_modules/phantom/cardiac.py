"""Short-axis cardiac MRI: bright-blood cine contrast, with optional scar and effusion.

Seen from below, as radiologists do: the right ventricle on the left of the picture, the chest wall on top.
Intensities are in arbitrary units with fat near 0.8 and blood near 0.9.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data_modules.phantom.anatomy import Anatomy, Factor, Facts, Scene, Structure
from data_modules.phantom.canvas import Canvas
from data_modules.phantom.degradation import bias_field, blur, ghosts, rician, smooth_field
from data_modules.phantom.geometry import (
    Blob,
    FloatImage,
    LabelImage,
    coverage,
    half_plane,
    make_grid,
    random_blob,
    sector,
)
from data_modules.phantom.randomness import Streams

FAT, MUSCLE, LUNG, BLOOD, MYOCARDIUM, FLUID, SCAR = 0.80, 0.30, 0.05, 0.88, 0.24, 0.98, 0.60

LEVEL_HEIGHT = {"basal": 0.0, "mid-ventricular": 0.45, "apical": 1.0}
"""Where the named levels lie between the base (0) and the apex (1)."""

CONTRACTION = 0.60
"""Radius of the cavity at end-systole over that at end-diastole in a heart that works well."""

SCAR_DIRECTION_RAD = {"lateral": 0.0, "inferior": np.pi / 2, "septal": np.pi, "anterior": -np.pi / 2}


@dataclass(frozen=True)
class HeartShape:
    """The ventricles of one slice in normalised units.

    Args:
        cavity: Left ventricular cavity.
        epicardium: Outer border of the left ventricular myocardium.
        right: Outer border of the right ventricle; what lies inside the epicardium is not part of it.
        septum_x: Where a flattened septum cuts the left ventricle, `None` for a round one.
    """

    cavity: Blob
    epicardium: Blob
    right: Blob
    septum_x: float | None


def heart_shape(facts: Facts, streams: Streams, height: float, contraction: float = CONTRACTION) -> HeartShape:
    """Return the ventricles at a height between the base (0) and the apex (1).

    The area of the myocardium is kept from diastole to systole, so the wall thickens as the cavity shrinks.
    """
    rng = streams("heart")
    centre_x, centre_y = 0.10 + 0.05 * rng.uniform(-1, 1), -0.12 + 0.04 * rng.uniform(-1, 1)
    size = 0.94 + 0.05 * float(rng.uniform(-1, 1))
    taper = size * (1.04 - 0.42 * height**1.5)
    radius = {"normal": 0.185, "dilated": 0.275}[facts["left ventricle"]] * taper
    wall = {"thin": 0.048, "normal": 0.09, "thick": 0.155}[facts["wall"]] * (0.4 + 0.6 * taper)
    width = {"normal": 0.17, "dilated": 0.31}[facts["right ventricle"]] * size * (1.05 - 0.6 * height)
    outer = radius + wall
    if facts["phase"] == "end-systole":
        area = outer**2 - radius**2
        radius, width = contraction * radius, contraction * width
        outer = float(np.sqrt(radius**2 + area))
    cavity = random_blob(rng, centre_x, centre_y, radius, radius, wobble=0.035)
    epicardium = Blob(cavity.x, cavity.y, cavity.rx, cavity.ry, cavity.tilt_rad, cavity.wobble).grown(outer - radius)
    right_rng = streams("right ventricle")
    right = random_blob(
        right_rng,
        centre_x - 0.62 * outer - 0.2 * width,
        centre_y - 0.12 * outer,
        0.38 * outer + 0.8 * width,
        (0.86 - 0.22 * height) * (outer + 0.25 * width),
        tilt_rad=0.15,
        wobble=0.05,
    )
    septum_x = centre_x - 0.52 * radius if facts["septum"] == "flattened" else None
    return HeartShape(cavity, epicardium, right, septum_x)


class CardiacMRI(Anatomy):
    """Short-axis slices through both ventricles; the first three labels are those of ACDC."""

    name: ClassVar[str] = "cardiac_mri"
    structures: ClassVar[tuple[Structure, ...]] = (
        Structure(1, "right ventricle"),
        Structure(2, "myocardium"),
        Structure(3, "left ventricle"),
        Structure(4, "pericardial effusion"),
        Structure(5, "myocardial scar", part_of="myocardium"),
        Structure(6, "aortic root"),
        Structure(7, "liver"),
        Structure(8, "right lung"),
        Structure(9, "left lung"),
        Structure(10, "descending aorta"),
        Structure(11, "stomach"),
        Structure(12, "spine"),
        Structure(13, "subcutaneous fat"),
    )
    factors: ClassVar[tuple[Factor, ...]] = (
        Factor("level", {"basal": 1, "mid-ventricular": 1, "apical": 1}, None, contrasts=False),
        Factor("phase", {"end-diastole": 1, "end-systole": 1}, None),
        Factor("left ventricle", {"normal": 1, "dilated": 1}, "normal"),
        Factor("wall", {"normal": 1, "thin": 1, "thick": 1}, "normal"),
        Factor("right ventricle", {"normal": 1, "dilated": 1}, "normal"),
        Factor("septum", {"round": 2, "flattened": 1}, "round"),
        Factor("scar", {"absent": 2, "anterior": 1, "lateral": 1, "inferior": 1, "septal": 1}, "absent"),
        Factor("pericardial effusion", {"absent": 3, "present": 2}, "absent"),
        Factor("liver", {"present": 1, "absent": 1}, "absent"),
        Factor("stomach", {"absent": 2, "present": 1}, "absent"),
        Factor("subcutaneous fat", {"normal": 2, "thick": 1}, "normal"),
        Factor("artefact", {"none": 3, "ghosting": 1, "noise": 1}, "none", changes_labels=False, contrasts=False),
    )

    def draw(
        self,
        facts: Facts,
        streams: Streams,
        size_px: int,
        height: float | None = None,
        contraction: float = CONTRACTION,
    ) -> Scene:
        """Draw a slice (see `Anatomy.draw`).

        Args:
            facts: A value for each factor.
            streams: Source of everything else.
            size_px: Width and height.
            height: Position between the base (0) and the apex (1); that of the named level when not given. A
                stack of slices is one patient drawn at several heights.
            contraction: Radius of the cavities at end-systole over that at end-diastole.
        """
        grid = make_grid(size_px)
        canvas = Canvas(grid, 0.015)
        self._draw_thorax(canvas, facts, streams)
        height = LEVEL_HEIGHT[facts["level"]] if height is None else height
        self._draw_heart(canvas, facts, streams, heart_shape(facts, streams, height, contraction))
        return Scene(canvas.image, canvas.labels, dict(facts))

    def acquire(self, scene: Scene, streams: Streams) -> LabelImage:
        """Apply what `receive` does, and a window (see `Anatomy.acquire`)."""
        image = self.receive(scene, streams)
        scale = np.float32(streams("window").uniform(215, 250))
        return np.asarray(np.clip(image * scale, 0, 255), np.uint8)

    def receive(self, scene: Scene, streams: Streams) -> FloatImage:
        """Return the signal under point spread, motion, shading and Rician noise, shape `(H, W)`."""
        grid = make_grid(scene.image.shape[0])
        artefact = scene.facts["artefact"]
        image = blur(scene.image, grid, 0.0085)
        if artefact == "ghosting":
            shift = float(streams("ghosts").uniform(0.2, 0.32))
            image = ghosts(image, grid, shift, 0.20)
        image = image * bias_field(streams("bias"), grid, 0.14)
        return rician(streams("noise"), image, 0.095 if artefact == "noise" else 0.02)

    def _draw_thorax(self, canvas: Canvas, facts: Facts, streams: Streams) -> None:
        grid = canvas.grid
        thickness = {"normal": 0.07, "thick": 0.18}[facts["subcutaneous fat"]]
        rng = streams("body")
        # The trunk stays as it is and fat is laid around it, so a layer more hides no organ.
        inner = random_blob(rng, 0, 0.04, 0.76, 0.66, wobble=0.025, jitter=0.02)
        body = inner.grown(thickness)
        texture = smooth_field(rng, grid, 14, 10) * np.float32(0.03)
        canvas.paint(coverage(grid, body), FAT + texture, self.index_of("subcutaneous fat"))
        canvas.paint(coverage(grid, inner), MUSCLE + texture, 0)
        chest = coverage(grid, inner.grown(-0.05))
        lungs = streams("lungs")
        for name, side in (("right lung", -1), ("left lung", 1)):
            blob = random_blob(lungs, 0.43 * side, -0.02, 0.44, 0.66, tilt_rad=0.06 * side, wobble=0.04)
            canvas.paint(coverage(grid, blob) * chest, LUNG, self.index_of(name))
        self._draw_vessels(canvas, streams)
        mediastinum = random_blob(streams("mediastinum"), 0.02, -0.1, 0.15, 0.62, wobble=0.06)
        canvas.paint(coverage(grid, mediastinum) * chest, 0.55 + 3 * texture, 0)
        self._draw_abdomen(canvas, facts, streams, chest)
        self._draw_spine(canvas, streams)

    def _draw_vessels(self, canvas: Canvas, streams: Streams) -> None:
        """Bright specks in the lungs: pulmonary vessels cut across."""
        grid = canvas.grid
        lung = np.isin(canvas.labels, (self.index_of("right lung"), self.index_of("left lung")))
        rng = streams("vessels")
        x, y = rng.uniform(-0.8, 0.8, 22), rng.uniform(-0.6, 0.6, 22)
        strength = rng.uniform(0.1, 0.45, 22).astype(np.float32)
        # A sum of Gaussian spots is separable, so all of them are one product of two thin matrices.
        across = np.exp(-(((grid.x - x[:, None]) / 0.014) ** 2)).astype(np.float32)
        down = np.exp(-(((grid.y - y[None, :]) / 0.014) ** 2)).astype(np.float32)
        canvas.image += lung * ((down * strength) @ across)

    def _draw_abdomen(self, canvas: Canvas, facts: Facts, streams: Streams, chest: FloatImage) -> None:
        grid = canvas.grid
        rng = streams("liver")
        liver = random_blob(rng, -0.44, 0.50, 0.44, 0.33, tilt_rad=0.15, wobble=0.05)
        if facts["liver"] == "present":
            texture = smooth_field(rng, grid, 16, 8) * np.float32(0.02)
            canvas.paint(coverage(grid, liver) * chest, 0.40 + texture, self.index_of("liver"))
        rng = streams("stomach")
        stomach = random_blob(rng, 0.53, 0.42, 0.22, 0.19, tilt_rad=-0.4, wobble=0.07)
        if facts["stomach"] == "present":
            canvas.paint(coverage(grid, stomach.grown(0.035)) * chest, 0.30, 0)
            canvas.paint(coverage(grid, stomach) * chest, 0.72, self.index_of("stomach"))

    def _draw_spine(self, canvas: Canvas, streams: Streams) -> None:
        grid = canvas.grid
        rng = streams("spine")
        body = random_blob(rng, 0.0, 0.55, 0.125, 0.105, wobble=0.04, jitter=0.02)
        muscle = np.maximum(
            coverage(grid, Blob(body.x - 0.20, body.y + 0.14, 0.17, 0.12)),
            coverage(grid, Blob(body.x + 0.20, body.y + 0.14, 0.17, 0.12)),
        )
        canvas.paint(np.maximum(muscle, coverage(grid, body.grown(0.04))), 0.26, 0)
        canvas.paint(coverage(grid, body), 0.46, self.index_of("spine"))
        canvas.paint(coverage(grid, Blob(body.x, body.y + 0.16, 0.045, 0.035)), 0.85)
        aorta = Blob(body.x + 0.19, body.y - 0.09, 0.062, 0.062)
        canvas.paint(coverage(grid, aorta.grown(0.03)), MUSCLE, 0)
        canvas.paint(coverage(grid, aorta), BLOOD, self.index_of("descending aorta"))

    def _draw_heart(self, canvas: Canvas, facts: Facts, streams: Streams, heart: HeartShape) -> None:
        grid = canvas.grid
        texture = smooth_field(streams("myocardium"), grid, 12, 8) * np.float32(0.02)
        effusion = facts["pericardial effusion"] == "present"
        gap = 0.065 if effusion else 0.0
        for margin, value, name in (
            (gap + 0.05, 0.62, None),
            (gap + 0.018, 0.2, None),
            (gap, FLUID, "effusion"),
        ):
            if name and not effusion:
                continue
            around = np.maximum(
                coverage(grid, heart.epicardium.grown(margin)),
                coverage(grid, heart.right.grown(margin + 0.02)),
            )
            canvas.paint(around, value, self.index_of("pericardial effusion") if name else 0)
        canvas.paint(coverage(grid, heart.right.grown(0.02)), MYOCARDIUM, 0)
        canvas.paint(coverage(grid, heart.right), BLOOD - 0.08 + texture, self.index_of("right ventricle"))
        epicardium, cavity = coverage(grid, heart.epicardium), coverage(grid, heart.cavity)
        if heart.septum_x is not None:
            thickness = heart.epicardium.rx - heart.cavity.rx
            cavity = cavity * half_plane(grid, heart.septum_x, 0, 0)
            epicardium = epicardium * half_plane(grid, heart.septum_x - thickness, 0, 0)
        canvas.paint(epicardium, MYOCARDIUM + texture, self.index_of("myocardium"))
        if facts["scar"] != "absent":
            self._draw_scar(canvas, facts, heart, epicardium)
        canvas.paint(cavity, BLOOD + texture, self.index_of("left ventricle"))
        if facts["level"] == "mid-ventricular":
            self._draw_papillary_muscles(canvas, heart)
        if facts["level"] == "basal":
            self._draw_aortic_root(canvas, heart)

    def _draw_scar(self, canvas: Canvas, facts: Facts, heart: HeartShape, epicardium: FloatImage) -> None:
        x = heart.cavity.x if heart.septum_x is None else max(heart.cavity.x, heart.septum_x + 0.05)
        part = sector(canvas.grid, x, heart.cavity.y, SCAR_DIRECTION_RAD[facts["scar"]], np.deg2rad(42))
        # A thin rim of dark muscle stays outside, as subendocardial enhancement leaves it.
        rim = 0.12 * (heart.epicardium.rx - heart.cavity.rx)
        inside = coverage(canvas.grid, heart.epicardium.grown(-rim)) * epicardium
        canvas.paint(part * inside, SCAR, self.index_of("myocardial scar"))

    def _draw_papillary_muscles(self, canvas: Canvas, heart: HeartShape) -> None:
        """Two dark spots that belong to the cavity's label, as in ACDC's reference."""
        size = max(0.17 * heart.cavity.rx, 0.026)
        for angle in (0.18 * np.pi, 0.72 * np.pi):
            x = heart.cavity.x + 0.58 * heart.cavity.rx * float(np.cos(angle))
            y = heart.cavity.y + 0.58 * heart.cavity.ry * float(np.sin(angle))
            canvas.paint(coverage(canvas.grid, Blob(x, y, size, size)), MYOCARDIUM + 0.04)

    def _draw_aortic_root(self, canvas: Canvas, heart: HeartShape) -> None:
        """The outflow tract, cut between the two ventricles in front of the septum."""
        x = heart.epicardium.x - 0.55 * heart.epicardium.rx
        y = heart.epicardium.y - 0.92 * heart.epicardium.ry
        root = Blob(x, y, 0.105, 0.095, 0.4)
        canvas.paint(coverage(canvas.grid, root.grown(0.03)), MYOCARDIUM, 0)
        canvas.paint(coverage(canvas.grid, root), BLOOD + 0.04, self.index_of("aortic root"))
