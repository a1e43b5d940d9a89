"""One person's abdomen: the solids of everybody, varied, and the attenuations of one scan."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from data_modules.phantom import abdomen_solids as solids
from data_modules.phantom.abdomen import ENHANCEMENT_HU
from data_modules.phantom.degradation import smooth_field
from data_modules.phantom.geometry import Blob, FloatImage, Grid
from data_modules.phantom.randomness import Streams
from data_modules.phantom.solids import Course, Tube

_COURSES = {
    "trunk": solids.TRUNK, "aorta": solids.AORTA, "inferior vena cava": solids.VENA_CAVA,
    "right kidney": solids.RIGHT_KIDNEY, "left kidney": solids.LEFT_KIDNEY, "right lobe": solids.RIGHT_LOBE,
    "left lobe": solids.LEFT_LOBE, "spleen": solids.SPLEEN, "stomach": solids.STOMACH,
    "gallbladder": solids.GALLBLADDER, "heart": solids.HEART,
}  # fmt: skip
_WOBBLE = {"trunk": 0.015, "aorta": 0.02, "inferior vena cava": 0.03}

_TUBES = {
    "esophagus": (solids.ESOPHAGUS,), "pancreas": (solids.PANCREAS,),
    "portal vein and splenic vein": (solids.SPLENIC_VEIN, solids.PORTAL_VEIN),
    "right adrenal gland": solids.RIGHT_ADRENAL, "left adrenal gland": solids.LEFT_ADRENAL,
}  # fmt: skip
# The pancreas lies in front of the splenic vein, so they move as one; as do the parts of an organ.
_MOVES_WITH = {"portal vein and splenic vein": "portal system", "pancreas": "portal system"}


@dataclass(frozen=True)
class Person:
    """Everything that varies from person to person and stays from slice to slice.

    Args:
        streams: Source of it.
        phase: Contrast phase, a key of `ENHANCEMENT_HU`.
    """

    streams: Streams
    phase: str = "portal venous"

    @cached_property
    def organs(self) -> dict[str, float]:
        """Attenuation of each organ in HU."""
        rng = self.streams("enhancement")
        return {name: value * float(rng.uniform(0.93, 1.07)) for name, value in ENHANCEMENT_HU[self.phase].items()}

    @cached_property
    def courses(self) -> dict[str, Course]:
        """The large organs and vessels by name."""
        return {
            name: course.varied(self.streams(name), wobble=_WOBBLE.get(name, 0.04)) for name, course in _COURSES.items()
        }

    @cached_property
    def tubes(self) -> dict[str, list[Tube]]:
        """The parts of the slender organs by name."""
        return {
            name: [part.varied(self.streams(_MOVES_WITH.get(name, name))) for part in parts]
            for name, parts in _TUBES.items()
        }

    def trunk(self, z: float) -> Blob:
        """Return the outline of the body without skin and subcutaneous fat.

        Raises:
            ValueError: If `z` is beyond the modelled part of the body.
        """
        outline = self.courses["trunk"].at(z)
        if outline is None:
            low, high = self.courses["trunk"].ends
            raise ValueError(f"z must lie between {low:.2f} and {high:.2f}, got {z}")
        return outline

    def texture(self, grid: Grid, z: float) -> FloatImage:
        """Fine variation of the tissues in HU that changes slowly from slice to slice."""
        first, other = _texture_fields(self.streams, grid)
        return np.asarray(np.float32(6 * np.cos(9 * z)) * first + np.float32(6 * np.sin(9 * z)) * other, np.float32)

    @cached_property
    def hepatic_veins(self) -> list[Tube]:
        """Three veins that meet in the vena cava below the diaphragm, and some branches."""
        rng = self.streams("hepatic veins")
        ends = rng.uniform((-0.66, -0.36, 0.05), (-0.30, 0.14, 0.40), (7, 3))
        ends = np.concatenate([ends, rng.uniform((-0.30, -0.42, 0.1), (0.10, -0.28, 0.35), (2, 3))])
        meet = np.array([-0.13, -0.02, 0.50])
        middles = 0.5 * (ends + meet) + rng.uniform(-0.06, 0.06, ends.shape)
        widths = (0.024, 0.019, 0.013)
        return [
            Tube(tuple((*point.tolist(), width) for point, width in zip((meet, m, e), widths, strict=True)))
            for m, e in zip(middles, ends, strict=True)
        ]


@lru_cache(maxsize=1)
def _texture_fields(streams: Streams, grid: Grid) -> tuple[FloatImage, FloatImage]:
    first, other = (smooth_field(streams(f"texture {i}"), grid, 18, 10) for i in range(2))
    return first, other
