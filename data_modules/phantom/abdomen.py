"""Axial abdominal CT at the level of the kidneys, in Hounsfield units.

Seen from below: the patient's right, and so the liver, on the left of the picture; the spine at the bottom.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data_modules.phantom.anatomy import Anatomy, Factor, Facts, Scene, Structure
from data_modules.phantom.canvas import Canvas
from data_modules.phantom.degradation import blur, correlated_noise, smooth_field
from data_modules.phantom.geometry import (
    Blob,
    FloatImage,
    LabelImage,
    coverage,
    half_plane,
    lines,
    make_grid,
    random_blob,
)
from data_modules.phantom.randomness import Streams

WINDOW_HU = (-160.0, 240.0)

AIR, FAT, MUSCLE, FLUID, BILE, CYST, GAS = -1000.0, -105.0, 55.0, 12.0, 4.0, 2.0, -700.0
MARROW, CORTEX, CALCIUM = 190.0, 480.0, 600.0

ENHANCEMENT_HU: dict[str, dict[str, float]] = {
    "non-contrast": {
        "liver": 58, "spleen": 50, "renal cortex": 34, "renal medulla": 34, "aorta": 42,
        "inferior vena cava": 40, "pancreas": 42, "lesion": 5,
    },
    "arterial": {
        "liver": 75, "spleen": 135, "renal cortex": 205, "renal medulla": 75, "aorta": 330,
        "inferior vena cava": 70, "pancreas": 110, "lesion": 22,
    },
    "portal venous": {
        "liver": 118, "spleen": 125, "renal cortex": 190, "renal medulla": 170, "aorta": 165,
        "inferior vena cava": 160, "pancreas": 92, "lesion": 35,
    },
}  # fmt: skip
"""Typical attenuation of the organs by contrast phase."""

STEATOSIS_HU = -62.0

NOISE_HU = {"none": 9.0, "noise": 38.0}
"""Standard deviation of the noise by artefact."""


def scan(image: FloatImage, streams: Streams, noise_hu: float) -> FloatImage:
    """Return a slice in HU under the point spread and the correlated noise of CT, shape `(H, W)`."""
    grid = make_grid(image.shape[0])
    image = blur(image, grid, 0.0085)
    return image + correlated_noise(streams("noise"), grid, noise_hu, 0.010)


@dataclass(frozen=True, eq=False)
class _Slice:
    """What the organs of a slice are drawn on and with.

    Args:
        canvas: Picture and labels.
        facts: What is true of the scene.
        streams: Source of everything else.
        organs: Attenuation of each organ in HU.
        cavity: Coverage of the room for organs, shape `(H, W)`.
        texture: Fine variation of the tissues in HU, shape `(H, W)`.
    """

    canvas: Canvas
    facts: Facts
    streams: Streams
    organs: dict[str, float]
    cavity: FloatImage
    texture: FloatImage


class AbdomenCT(Anatomy):
    """Axial slices through the upper abdomen; labels up to 13 are those of Synapse (BTCV)."""

    name: ClassVar[str] = "abdomen_ct"
    structures: ClassVar[tuple[Structure, ...]] = (
        Structure(1, "spleen"),
        Structure(2, "right kidney"),
        Structure(3, "left kidney"),
        Structure(4, "gallbladder"),
        Structure(6, "liver"),
        Structure(7, "stomach"),
        Structure(8, "aorta"),
        Structure(9, "inferior vena cava"),
        Structure(11, "pancreas"),
        Structure(14, "liver lesion", part_of="liver"),
        Structure(15, "right renal cyst"),
        Structure(16, "left renal cyst"),
        Structure(17, "gallstone", part_of="gallbladder"),
        Structure(18, "ascites"),
        Structure(19, "spine"),
        Structure(20, "subcutaneous fat"),
    )
    factors: ClassVar[tuple[Factor, ...]] = (
        Factor(
            "contrast",
            {"non-contrast": 1, "arterial": 1, "portal venous": 1},
            None,
            changes_labels=False,
            contrasts=False,
        ),
        Factor("liver", {"normal": 3, "enlarged": 2}, "normal"),
        Factor("liver texture", {"normal": 3, "fatty": 1}, "normal", changes_labels=False),
        Factor("liver lesion", {"absent": 2, "right lobe": 1, "left lobe": 1}, "absent"),
        Factor("spleen", {"normal": 2, "enlarged": 1, "absent": 1}, "normal"),
        Factor("kidneys", {"both": 3, "right absent": 1, "left absent": 1}, "both"),
        Factor("renal cyst", {"absent": 2, "right": 1, "left": 1}, "absent"),
        Factor("gallbladder", {"normal": 1, "absent": 1, "gallstone": 1}, None),
        Factor("stomach", {"absent": 1, "fluid-filled": 1, "gas-filled": 1}, "absent"),
        Factor("pancreas", {"present": 2, "absent": 1}, "present"),
        Factor("aorta", {"normal": 2, "aneurysm": 1}, "normal"),
        Factor("ascites", {"absent": 3, "present": 2}, "absent"),
        Factor("subcutaneous fat", {"normal": 1, "thin": 1, "thick": 1}, "normal"),
        Factor("artefact", {"none": 3, "noise": 1}, "none", changes_labels=False, contrasts=False),
    )

    def valid(self, facts: Facts) -> bool:
        """A cyst needs its kidney."""
        return facts["kidneys"] != f"{facts['renal cyst']} absent"

    def draw(self, facts: Facts, streams: Streams, size_px: int) -> Scene:
        """Draw a slice in Hounsfield units (see `Anatomy.draw`)."""
        grid = make_grid(size_px)
        canvas = Canvas(grid, AIR)
        texture = smooth_field(streams("texture"), grid, 18, 10) * np.float32(6)
        organs = ENHANCEMENT_HU[facts["contrast"]]
        cavity = self._draw_wall(canvas, facts, streams, texture)
        self._draw_bowel(canvas, facts, streams, cavity)
        self._draw_vessels(canvas, facts, streams, organs)
        for draw in (
            self._draw_kidneys,
            self._draw_pancreas,
            self._draw_stomach,
            self._draw_spleen,
            self._draw_liver,
        ):
            draw(_Slice(canvas, facts, streams, organs, cavity, texture))
        self._draw_gallbladder(canvas, facts, streams)
        return Scene(canvas.image, canvas.labels, dict(facts))

    def acquire(self, scene: Scene, streams: Streams) -> LabelImage:
        """Apply point spread and correlated noise, then the abdominal window (see `Anatomy.acquire`)."""
        image = scan(scene.image, streams, NOISE_HU["noise" if scene.facts["artefact"] == "noise" else "none"])
        low, high = WINDOW_HU
        return np.asarray(np.clip((image - low) * (255 / (high - low)), 0, 255), np.uint8)

    def _draw_wall(self, canvas: Canvas, facts: Facts, streams: Streams, texture: FloatImage) -> FloatImage:
        """Draw skin, fat, muscle, ribs and spine; return the coverage of the room for the organs."""
        grid = canvas.grid
        rng = streams("body")
        thickness = {"thin": 0.03, "normal": 0.085, "thick": 0.15}[facts["subcutaneous fat"]]
        trunk = random_blob(rng, 0, 0, 0.78, 0.63, wobble=0.018, jitter=0.01)
        body = trunk.grown(thickness)
        canvas.paint(coverage(grid, body.grown(0.018)), 40.0, 0)
        canvas.paint(coverage(grid, body), FAT + texture, self.index_of("subcutaneous fat"))
        canvas.paint(coverage(grid, trunk), MUSCLE + texture, 0)
        inner = trunk.grown(-0.055)
        self._draw_ribs(canvas, streams, trunk.grown(-0.028))
        cavity = coverage(grid, inner)
        rng = streams("spine")
        spine = random_blob(rng, trunk.x, trunk.y + 0.285, 0.135, 0.115, wobble=0.03)
        back = np.maximum.reduce(
            [coverage(grid, Blob(spine.x + s * 0.22, spine.y + 0.16, 0.21, 0.15, 0.25 * s)) for s in (-1, 1)]
            + [coverage(grid, Blob(spine.x + s * 0.17, spine.y - 0.01, 0.085, 0.12, 0.3 * s)) for s in (-1, 1)]
        )
        ascites = facts["ascites"] == "present"
        canvas.paint(cavity, FLUID if ascites else FAT + 2 * texture, self.index_of("ascites") if ascites else 0)
        if ascites:
            mesentery = Blob(trunk.x + 0.02, trunk.y + 0.04, 0.47, 0.40, 0.0, inner.wobble)
            canvas.paint(coverage(grid, mesentery), FAT + 2 * texture, 0)
        canvas.paint(back, MUSCLE + 2 * texture, 0)
        arch = [Blob(spine.x, spine.y + 0.18, 0.16, 0.035), Blob(spine.x, spine.y + 0.22, 0.028, 0.085)]
        cover = np.maximum.reduce([coverage(grid, part) for part in arch])
        canvas.paint(cover, CORTEX, self.index_of("spine"))
        canvas.paint(coverage(grid, spine), CORTEX, self.index_of("spine"))
        canvas.paint(coverage(grid, spine.grown(-0.025)), MARROW + 8 * texture)
        canvas.paint(coverage(grid, Blob(spine.x, spine.y + 0.135, 0.05, 0.038)), 25.0)
        # With ascites, fluid keeps the organs off the wall.
        return coverage(grid, inner.grown(-0.05)) if ascites else cavity

    def _draw_ribs(self, canvas: Canvas, streams: Streams, ring: Blob) -> None:
        rng = streams("ribs")
        middles = np.deg2rad([20, -8, -38, 160, 188, 218, 48, 132]) + rng.uniform(-0.12, 0.12, 8)
        angles = middles[:, None] + np.linspace(-0.095, 0.095, 4)
        x, y = ring.x + ring.rx * np.cos(angles), ring.y + ring.ry * np.sin(angles)
        paths = [list(zip(*points, strict=True)) for points in zip(x.tolist(), y.tolist(), strict=True)]
        canvas.paint(lines(canvas.grid, paths, [0.046] * 8), CORTEX)
        canvas.paint(lines(canvas.grid, [path[1:3] for path in paths], [0.02] * 8), MARROW)

    def _draw_bowel(self, canvas: Canvas, facts: Facts, streams: Streams, cavity: FloatImage) -> None:
        """A few loops of unnamed bowel between the organs."""
        rng = streams("bowel")
        for x, y in ((0.20, -0.39), (0.02, -0.42), (0.30, -0.14), (0.47, -0.26), (0.12, -0.25)):
            loop = random_blob(rng, x, y, 0.085, 0.065, tilt_rad=float(rng.uniform(-1, 1)), wobble=0.06, jitter=0.03)
            canvas.paint(coverage(canvas.grid, loop) * cavity, 48.0, 0)
            canvas.paint(coverage(canvas.grid, loop.grown(-0.022)) * cavity, float(rng.uniform(10, 35)))

    def _draw_vessels(self, canvas: Canvas, facts: Facts, streams: Streams, organs: dict[str, float]) -> None:
        grid = canvas.grid
        rng = streams("aorta")
        radius = {"normal": 0.066, "aneurysm": 0.14}[facts["aorta"]]
        # Its back stays at the spine, so an aneurysm grows forwards.
        aorta = random_blob(rng, 0.065, 0.15 - (radius - 0.066), radius, radius, wobble=0.02, jitter=0.012)
        canvas.paint(coverage(grid, aorta.grown(0.012)), MUSCLE, 0)
        canvas.paint(coverage(grid, aorta), organs["aorta"], self.index_of("aorta"))
        vein = random_blob(streams("vena cava"), -0.13, 0.13, 0.078, 0.058, tilt_rad=0.2, wobble=0.03, jitter=0.012)
        cover = coverage(grid, vein) * (1 - coverage(grid, aorta.grown(0.012)))
        canvas.paint(cover, organs["inferior vena cava"], self.index_of("inferior vena cava"))

    def _draw_kidneys(self, slice_: _Slice) -> None:
        canvas, facts, grid = slice_.canvas, slice_.facts, slice_.canvas.grid
        for name, side in (("right", -1), ("left", 1)):
            rng = slice_.streams(f"{name} kidney")
            kidney = random_blob(rng, 0.40 * side, 0.22, 0.14, 0.18, tilt_rad=-0.35 * side, wobble=0.04, jitter=0.02)
            cyst = random_blob(rng, kidney.x + 0.09 * side, kidney.y + 0.15, 0.092, 0.09, wobble=0.03)
            capsule = coverage(grid, kidney.grown(0.04)) * slice_.cavity
            if facts["kidneys"] == f"{name} absent":
                canvas.paint(capsule, FAT + 2 * slice_.texture, 0)
                continue
            canvas.paint(capsule, FAT + slice_.texture, 0)
            whole = coverage(grid, kidney)
            canvas.paint(whole, slice_.organs["renal cortex"] + slice_.texture, self.index_of(f"{name} kidney"))
            canvas.paint(coverage(grid, kidney.grown(-0.045), 0.03), slice_.organs["renal medulla"] + slice_.texture)
            # The sinus: fat that opens towards the spine.
            sinus = Blob(kidney.x - 0.055 * side, kidney.y - 0.02, 0.062, 0.045, kidney.tilt_rad)
            canvas.paint(coverage(grid, sinus), -60.0)
            if facts["renal cyst"] == name:
                canvas.paint(coverage(grid, cyst), CYST, self.index_of(f"{name} renal cyst"))

    def _draw_pancreas(self, slice_: _Slice) -> None:
        canvas, facts, grid = slice_.canvas, slice_.facts, slice_.canvas.grid
        rng = slice_.streams("pancreas")
        head = random_blob(rng, -0.10, -0.08, 0.09, 0.085, wobble=0.06, jitter=0.01)
        body = random_blob(rng, 0.12, -0.135, 0.20, 0.054, tilt_rad=-0.28, wobble=0.06, jitter=0.01)
        bed = np.maximum(coverage(grid, head.grown(0.03)), coverage(grid, body.grown(0.03))) * slice_.cavity
        if facts["aorta"] == "aneurysm":  # the pancreas is pushed forwards, never painted over the vessel
            bed = bed * (canvas.labels != self.index_of("aorta"))
        if facts["pancreas"] == "absent":
            return
        canvas.paint(bed, FAT, 0)
        cover = np.maximum(coverage(grid, head), coverage(grid, body)) * (bed > 0.5)
        canvas.paint(cover, slice_.organs["pancreas"] + 2 * slice_.texture, self.index_of("pancreas"))

    def _draw_stomach(self, slice_: _Slice) -> None:
        canvas, facts, grid = slice_.canvas, slice_.facts, slice_.canvas.grid
        rng = slice_.streams("stomach")
        stomach = random_blob(rng, 0.30, -0.30, 0.25, 0.17, tilt_rad=-0.25, wobble=0.05, jitter=0.015)
        if facts["stomach"] == "absent":
            return
        index = self.index_of("stomach")
        canvas.paint(coverage(grid, stomach.grown(0.02)) * slice_.cavity, 60.0, index)
        lumen = coverage(grid, stomach.grown(-0.008)) * slice_.cavity
        canvas.paint(lumen, 14.0, index)
        share = -0.8 if facts["stomach"] == "fluid-filled" else 0.45
        level = stomach.y + share * stomach.ry
        canvas.paint(lumen * half_plane(grid, stomach.x, level, -np.pi / 2), GAS)

    def _draw_spleen(self, slice_: _Slice) -> None:
        canvas, facts, grid = slice_.canvas, slice_.facts, slice_.canvas.grid
        rx, ry = (0.21, 0.35) if facts["spleen"] == "enlarged" else (0.12, 0.22)
        spleen = random_blob(slice_.streams("spleen"), 0.71 - rx, 0.0, rx, ry, tilt_rad=-0.12, wobble=0.05)
        if facts["spleen"] == "absent":
            return
        mottle = 5 * slice_.texture if facts["contrast"] == "arterial" else slice_.texture
        canvas.paint(coverage(grid, spleen) * slice_.cavity, slice_.organs["spleen"] + mottle, self.index_of("spleen"))

    def _draw_liver(self, slice_: _Slice) -> None:
        canvas, facts, grid = slice_.canvas, slice_.facts, slice_.canvas.grid
        rng = slice_.streams("liver")
        large = facts["liver"] == "enlarged"
        right = random_blob(rng, -0.47, -0.10, 0.28, 0.42 if large else 0.34, tilt_rad=0.12, wobble=0.04)
        left = random_blob(
            rng, -0.12 if large else -0.18, -0.36, 0.42 if large else 0.26, 0.15, tilt_rad=-0.04, wobble=0.04
        )
        edge = coverage(grid, Blob(-0.41, 0.23, 0.20, 0.24, 0.35))  # the bed of the right kidney
        cover = np.maximum(coverage(grid, right) * (1 - edge), coverage(grid, left)) * slice_.cavity
        index = self.index_of("liver")
        tissue = slice_.organs["liver"] + (STEATOSIS_HU if facts["liver texture"] == "fatty" else 0.0)
        canvas.paint(cover, tissue + slice_.texture, index)
        self._draw_hepatic_vessels(slice_, cover)
        place = {"right lobe": (-0.53, -0.04), "left lobe": (-0.13, -0.37)}.get(facts["liver lesion"])
        lesion_rng = slice_.streams("lesion")
        if place:
            lesion = random_blob(lesion_rng, *place, 0.095, 0.09, wobble=0.06, jitter=0.02)
            value = tissue - 75.0 if facts["liver texture"] == "fatty" else slice_.organs["lesion"]
            inside = coverage(grid, lesion, 0.02) * (canvas.labels == index)
            canvas.paint(inside, value, self.index_of("liver lesion"))

    def _draw_hepatic_vessels(self, slice_: _Slice, liver: FloatImage) -> None:
        rng = slice_.streams("hepatic vessels")
        starts = rng.uniform((-0.62, -0.34), (-0.25, 0.05), (5, 2))
        angles = rng.uniform(-1.2, 1.2, 5)
        ends = starts + 0.12 * np.stack([np.cos(angles), np.sin(angles)], 1)
        paths = [[tuple(a), tuple(b)] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
        cover = lines(slice_.canvas.grid, paths, [0.026] * 5) * liver
        slice_.canvas.add(cover, 0.35 * (slice_.organs["inferior vena cava"] - 45))

    def _draw_gallbladder(self, canvas: Canvas, facts: Facts, streams: Streams) -> None:
        grid = canvas.grid
        rng = streams("gallbladder")
        bladder = random_blob(rng, -0.25, -0.09, 0.078, 0.115, tilt_rad=0.5, wobble=0.04, jitter=0.012)
        if facts["gallbladder"] == "absent":
            return
        canvas.paint(coverage(grid, bladder.grown(0.014)), 50.0, 0)
        canvas.paint(coverage(grid, bladder), BILE, self.index_of("gallbladder"))
        if facts["gallbladder"] == "gallstone":
            stone = Blob(bladder.x + 0.012, bladder.y + 0.045, 0.036, 0.032)
            canvas.paint(coverage(grid, stone), CALCIUM, self.index_of("gallstone"))
