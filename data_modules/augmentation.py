"""Random changes of training slices, by modality: a sampler from ranges, and a deterministic twin.

    parameters = augmentation.sample(seed)            # can be logged: dataclasses.asdict(parameters)
    image, mask = augmentation.apply(image, mask, parameters)

`augmentation(image, mask, seed=seed)` does both. No preset mirrors left and right: a liver on the other side, or a
right ventricle right of the left one, is what the words "left" and "right" of a prompt must not be taught.
"""

import math
from dataclasses import dataclass

import numpy as np

from data_modules.augmentation_transforms import (
    Geometry,
    GreyImage,
    Intensity,
    LabelMap,
    bias_field_terms,
    check_pair,
)
from data_modules.slices import Augmentation

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class AugmentationParameters:
    """What was drawn for one slice; `dataclasses.asdict` makes plain values of it."""

    geometry: Geometry
    intensity: Intensity


@dataclass(frozen=True, kw_only=True)
class SliceAugmentation(Augmentation):
    """Draws small similarity transforms and changes of intensity from ranges; without arguments it changes nothing.

    Geometric changes are always drawn from their ranges; each change of intensity is made with `probability`.
    Ranges of factors (scale, gamma, contrast) are drawn evenly in the logarithm.

    Args:
        rotation_deg: Turn by at most so much either way.
        scale: Smallest and largest magnification.
        shift: Move by at most this share of height and width.
        flip_left_right: Probability of mirroring. Leave it at 0 where the sides have names.
        probability: Of each change of intensity.
        gamma: Smallest and largest exponent.
        contrast: Smallest and largest stretch about the mean.
        brightness: Add at most so much either way (the image's range is 1).
        blur_sigma_px: Largest standard deviation of the blur, pixels of the slice.
        noise_std: Largest standard deviation of the noise (the image's range is 1).
        rician: Noise as in magnitude images (MR).
        bias_field: Largest coefficient of a smooth gain (MR coils).

    Raises:
        ValueError: A number is out of range; names the argument.
    """

    rotation_deg: float = 0.0
    scale: Range = (1.0, 1.0)
    shift: float = 0.0
    flip_left_right: float = 0.0
    probability: float = 0.5
    gamma: Range = (1.0, 1.0)
    contrast: Range = (1.0, 1.0)
    brightness: float = 0.0
    blur_sigma_px: float = 0.0
    noise_std: float = 0.0
    rician: bool = False
    bias_field: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("scale", "gamma", "contrast"):
            factors: Range = getattr(self, name)
            if len(factors) != 2 or not 0 < factors[0] <= factors[1] < math.inf:
                raise ValueError(f"{name} must be a smallest and a largest factor over 0, got {factors}")
        for name in ("flip_left_right", "probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a probability from 0 to 1, got {getattr(self, name)}")
        at_most = {
            "rotation_deg": 180.0,
            "shift": 1.0,
            "brightness": 1.0,
            "blur_sigma_px": math.inf,
            "noise_std": 1.0,
            "bias_field": 1.0,
        }
        for name, limit in at_most.items():
            value: float = getattr(self, name)
            if not 0 <= value <= limit or math.isinf(value):
                raise ValueError(f"{name} must be from 0 to {limit}, got {value}")

    def sample(self, seed: int) -> AugmentationParameters:
        """Draw the parameters for one slice.

        Args:
            seed: 0 or more; equal seeds give equal parameters. Give each slice and epoch its own.
        """
        rng = np.random.default_rng(seed)
        # All numbers are drawn, used or not: closing one range leaves the draws from the others as they were.
        rotation, scale, down, right, flip = rng.random(5)
        gamma, contrast, brightness, blur, noise = rng.random(5)
        use_bias, use_gamma, use_contrast, use_brightness, use_blur, use_noise = rng.random(6) < self.probability
        noise_seed = int(rng.integers(2**63))
        bias = rng.uniform(-1, 1, bias_field_terms())
        geometry = Geometry(
            rotation_deg=_either_way(rotation, self.rotation_deg),
            scale=_factor(scale, self.scale),
            shift=(_either_way(down, self.shift), _either_way(right, self.shift)),
            flip_left_right=bool(flip < self.flip_left_right),
        )
        intensity = Intensity(
            bias_coefficients=tuple((self.bias_field * bias).tolist()) if use_bias and self.bias_field else (),
            gamma=_factor(gamma, self.gamma) if use_gamma else 1.0,
            contrast=_factor(contrast, self.contrast) if use_contrast else 1.0,
            brightness=_either_way(brightness, self.brightness) if use_brightness else 0.0,
            blur_sigma_px=float(blur * self.blur_sigma_px) if use_blur else 0.0,
            noise_std=float(noise * self.noise_std) if use_noise else 0.0,
            noise_seed=noise_seed,
            rician=self.rician,
        )
        return AugmentationParameters(geometry, intensity)

    def apply(self, image: GreyImage, mask: LabelMap, parameters: AugmentationParameters) -> tuple[GreyImage, LabelMap]:
        """Apply drawn parameters; the inputs are left as they are.

        Args:
            image: (H, W) float32 in [0, 1].
            mask: (H, W) uint8.
            parameters: From `sample`, or read back from a log.

        Raises:
            ValueError: Image and mask differ in shape, or have types that are not theirs.
        """
        check_pair(image, mask)
        image, mask = parameters.geometry.apply(image, mask)
        return parameters.intensity.apply(image), mask

    def __call__(self, image: GreyImage, mask: LabelMap, *, seed: int) -> tuple[GreyImage, LabelMap]:
        """Draw and apply; see `sample` and `apply`."""
        return self.apply(image, mask, self.sample(seed))


@dataclass(frozen=True, kw_only=True)
class CardiacMRAugmentation(SliceAugmentation):
    """For short-axis cine MR: the slice's orientation varies, coils shade the image, noise is Rician."""

    rotation_deg: float = 15.0
    scale: Range = (0.85, 1.2)
    shift: float = 0.06
    gamma: Range = (0.75, 1.35)
    contrast: Range = (0.8, 1.25)
    brightness: float = 0.05
    blur_sigma_px: float = 0.8
    noise_std: float = 0.04
    rician: bool = True
    bias_field: float = 0.2


@dataclass(frozen=True, kw_only=True)
class AbdominalCTAugmentation(SliceAugmentation):
    """For windowed axial CT: Hounsfield units are absolute, so intensities move little and nothing is shaded."""

    rotation_deg: float = 10.0
    scale: Range = (0.85, 1.15)
    shift: float = 0.05
    gamma: Range = (0.9, 1.1)
    contrast: Range = (0.9, 1.1)
    brightness: float = 0.04
    blur_sigma_px: float = 0.8
    noise_std: float = 0.03


@dataclass(frozen=True, kw_only=True)
class ChestXRayAugmentation(SliceAugmentation):
    """For frontal chest X-rays: patients stand upright, exposure and post-processing vary a lot."""

    rotation_deg: float = 7.0
    scale: Range = (0.9, 1.1)
    shift: float = 0.05
    gamma: Range = (0.75, 1.35)
    contrast: Range = (0.8, 1.25)
    brightness: float = 0.08
    blur_sigma_px: float = 0.8
    noise_std: float = 0.03


def _either_way(draw: float, most: float) -> float:
    """Turn a draw from [0, 1) into one from [-most, most)."""
    return float((2 * draw - 1) * most)


def _factor(draw: float, factors: Range) -> float:
    """Turn a draw from [0, 1) into a factor, as often over as under the geometric mean."""
    low, high = (math.log(factor) for factor in factors)
    return math.exp(low + draw * (high - low))
