"""Dense CRF by mean field."""

import torch
from torch import Tensor

from medzeroseg.postprocessing.base import Refiner
from medzeroseg.postprocessing.crf_kernels import AppearanceKernel, FeatureKernel, Kernel, SmoothnessKernel


class DenseCRF(Refiner):
    """Fully connected CRF with two labels, foreground and background, for every map by itself.

    The map is read as the probability of the foreground. Pixels that are close, or similar in intensity and not far
    apart, or similar in features and not far apart, pull each other to the same label (Potts model). The
    result is the mean field's probability of the foreground; `Threshold` makes a mask of it.

    With two labels the mean field is one equation: q = sigmoid(logit p + sum_m w_m K~_m (2 q - 1)), where K~_m is a
    normalised kernel (`medzeroseg.postprocessing.crf_kernels`).

    A constant map prefers no place; it is returned as it is, so that what comes after still finds nothing in it.

    Spatial scales are fractions of the image's longer side: a picture of twice the resolution gives the same mask.

    Args:
        smoothness_weight: w of the kernel on position alone; 0 leaves it out.
        smoothness_sigma: Its standard deviation, fraction of the longer side (0.012 is 3 of 256 pixels).
        appearance_weight: w of the kernel on position and intensity; 0 leaves it out, and images are not needed.
        appearance_sigma: Its standard deviation in position, fraction of the longer side.
        intensity_sigma: Its standard deviation in intensity, of images in [0, 1].
        feature_weight: w of the kernel on position and features, DPFEM's for example; 0 leaves it out.
        feature_sigma: Its standard deviation in position, fraction of the longer side.
        feature_distance_sigma: Its standard deviation in the distance of unit features (0 to 2).
        iterations: Of the mean field; 0 returns the clipped map.
        clip: The map is clipped to [clip, 1 - clip]: no pixel is beyond persuasion.

    Source: Krähenbühl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NeurIPS
    2011, equations 2 and 3 and algorithm 1; kernels normalised as in their code.
    """

    def __init__(
        self,
        smoothness_weight: float = 3.0,
        smoothness_sigma: float = 0.012,
        appearance_weight: float = 4.0,
        appearance_sigma: float = 0.125,
        intensity_sigma: float = 0.1,
        feature_weight: float = 0.0,
        feature_sigma: float = 0.25,
        feature_distance_sigma: float = 0.5,
        iterations: int = 10,
        clip: float = 0.05,
    ) -> None:
        """Check and keep the options."""
        self.smoothness_weight = smoothness_weight
        self.smoothness_sigma = smoothness_sigma
        self.appearance_weight = appearance_weight
        self.appearance_sigma = appearance_sigma
        self.intensity_sigma = intensity_sigma
        self.feature_weight = feature_weight
        self.feature_sigma = feature_sigma
        self.feature_distance_sigma = feature_distance_sigma
        self.iterations = iterations
        self.clip = clip
        for name, value in vars(self).items():
            if name.endswith("_sigma") and not value > 0:
                raise ValueError(f"{name} must be above 0, not {value}")
            if name.endswith("_weight") and not value >= 0:
                raise ValueError(f"{name} must be at least 0, not {value}")
        if iterations < 0:
            raise ValueError(f"iterations must be at least 0, not {iterations}")
        if not 0 < clip < 0.5:
            raise ValueError(f"clip must be in (0, 0.5), not {clip}")

    def _run(self, maps: Tensor, images: Tensor | None, features: Tensor | None) -> Tensor:
        with torch.no_grad():
            unary = torch.logit(maps.float().clamp(self.clip, 1 - self.clip))
            kernels = self._kernels(unary, images, features)
            logits = unary
            for _ in range(self.iterations):
                pull = 2 * logits.sigmoid() - 1
                logits = unary + sum((weight * kernel(pull) for weight, kernel in kernels), torch.zeros_like(unary))
            constant = maps.amin(dim=(2, 3), keepdim=True) == maps.amax(dim=(2, 3), keepdim=True)
            return torch.where(constant, maps.float(), logits.sigmoid())

    def _kernels(self, like: Tensor, images: Tensor | None, features: Tensor | None) -> list[tuple[float, Kernel]]:
        side_px = max(like.shape[2:])
        kernels: list[tuple[float, Kernel]] = []
        if self.smoothness_weight > 0:
            kernels.append((self.smoothness_weight, SmoothnessKernel(like, self.smoothness_sigma * side_px)))
        if self.appearance_weight > 0:
            grey = self._images(like, images)
            kernel = AppearanceKernel(like, grey, self.appearance_sigma * side_px, self.intensity_sigma)
            kernels.append((self.appearance_weight, kernel))
        if self.feature_weight > 0:
            if features is None or features.ndim != 4 or len(features) != len(like):
                raise ValueError(
                    f"DenseCRF: feature_weight is {self.feature_weight}, so features must be ({len(like)}, C, h, w); "
                    "pass them, or set feature_weight to 0"
                )
            by_features = FeatureKernel(like, features, self.feature_sigma * side_px, self.feature_distance_sigma)
            kernels.append((self.feature_weight, by_features))
        return kernels

    def _images(self, like: Tensor, images: Tensor | None) -> Tensor:
        expected = (len(like), *like.shape[2:])
        if images is None or tuple(images.shape) != expected:
            found = "none" if images is None else str(tuple(images.shape))
            raise ValueError(
                f"DenseCRF: images must be grey, {expected} as the maps, not {found}; pass them, or set "
                "appearance_weight to 0"
            )
        grey = images.to(like)
        if not (grey.amin() >= 0 and grey.amax() <= 1):  # NaN fails as well
            raise ValueError("DenseCRF: images must lie in [0, 1] and be finite: window them first")
        return grey
