"""What a scanner does to an ideal picture: shading, blur, noise, ghosts.

Lengths are in normalised units (see `geometry`), so a phantom degrades alike at every image size.
"""

import numpy as np
from scipy import ndimage

from data_modules.phantom.geometry import FloatImage, Grid


def smooth_field(rng: np.random.Generator, grid: Grid, waves: float, terms: int = 8, cutoff: float = 0.3) -> FloatImage:
    """Return a smooth random field of about zero mean and unit variance, shape `(H, W)`.

    A sum of separable cosines: a product of two small matrices, far cheaper than filtering white noise.

    Args:
        rng: Source of frequencies and phases.
        grid: Pixel grid.
        waves: Highest number of periods over the field of view.
        terms: Number of cosines.
        cutoff: Lowest frequency, as a share of `waves`.
    """
    frequency = rng.uniform(cutoff, 1, (2, terms, 1)) * (np.pi * waves) * rng.choice([-1, 1], (2, terms, 1))
    phase = rng.uniform(0, 2 * np.pi, (2, terms, 1))
    across, down = np.cos(frequency.astype(np.float32) * grid.axis[None, :] + phase.astype(np.float32))
    return np.asarray((down.T @ across) * np.float32(2 / np.sqrt(terms)), np.float32)


def bias_field(rng: np.random.Generator, grid: Grid, strength: float) -> FloatImage:
    """Return a multiplicative receive-coil shading around 1, at most a factor `exp(+-2 strength)` or so."""
    return np.asarray(np.exp(np.float32(strength) * smooth_field(rng, grid, waves=0.7, terms=4)), np.float32)


def blur(image: FloatImage, grid: Grid, width: float) -> FloatImage:
    """Return the image under a Gaussian point spread function of standard deviation `width`."""
    return np.asarray(ndimage.gaussian_filter(image, width / grid.pixel, truncate=3.0), np.float32)


def rician(rng: np.random.Generator, image: FloatImage, sigma: float) -> FloatImage:
    """Return the magnitude of a complex signal with Gaussian noise of `sigma` in either channel (MR)."""
    real, imaginary = rng.standard_normal((2, *image.shape), np.float32) * np.float32(sigma)
    return np.asarray(np.hypot(image + real, imaginary), np.float32)


def correlated_noise(rng: np.random.Generator, grid: Grid, sigma: float, width: float) -> FloatImage:
    """Return Gaussian noise of standard deviation `sigma` and correlation length `width` (CT)."""
    noise = blur(rng.standard_normal((grid.size_px, grid.size_px), np.float32), grid, width)
    return noise * np.float32(sigma / max(float(noise.std()), 1e-6))


def photon_noise(rng: np.random.Generator, image: FloatImage, sigma: float) -> FloatImage:
    """Return quantum noise for an attenuation image: the log of a Poisson count, so more where less passes.

    Args:
        rng: Source of the noise.
        image: Attenuation, about 0 to 1.
        sigma: Standard deviation at an attenuation of 0.
    """
    noise = rng.standard_normal(image.shape, np.float32)
    return np.asarray(noise * (np.float32(sigma) * np.exp(np.clip(image, 0, 2) * np.float32(0.5))), np.float32)


def ghosts(image: FloatImage, grid: Grid, shift: float, strength: float) -> FloatImage:
    """Return the image with copies of itself above and below, as motion leaves along the phase encoding."""
    step = max(1, round(shift / grid.pixel))
    copies = np.roll(image, step, 0) + np.roll(image, -step, 0) - np.roll(image, 2 * step, 0) * np.float32(0.5)
    return np.asarray(np.abs(image + np.float32(strength) * copies), np.float32)
