"""The embedded default: a random walker between seeds, no weights, no download."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from medzeroseg.segmenters.base import PromptableSegmenter, SegmentedPrompts, SpatialPrompts, nothing
from medzeroseg.segmenters.walking import first_reach

_INSIDE, _OUTSIDE = 1, 2
Grey = npt.NDArray[np.float32]
Seeds = npt.NDArray[np.int8]


@dataclass(frozen=True)
class _Image:
    grey: Grey
    device: torch.device


class RandomWalkerSegmenter(PromptableSegmenter):
    """Probability that a walker from each pixel, held back by edges, meets an inside seed first.

    Inside seeds are the positive points and the core of the coarse mask (its pixels at least half as deep inside as
    its deepest) or, without either, the middle quarter of the box's sides. Outside seeds are the negative points and
    everything beyond the box, widened by `margin`; without a box the whole image is open. It refines a boundary along
    edges; it does not know what an organ is.

    Source: Grady, "Random walks for image segmentation", IEEE TPAMI 2006; solved by `walking.first_reach`.
    """

    def __init__(self, beta: float = 300.0, margin: float = 0.1, longest_px: int = 128) -> None:
        """Keep the settings.

        Args:
            beta: How strongly an edge holds a walker back; over 0.
            margin: The box is widened by this share of its sides before what is beyond counts as outside; 0 or more.
            longest_px: A wider crop is solved at this many pixels and resized back; the time grows with the area.

        Raises:
            ValueError: A setting is out of range.
        """
        super().__init__()
        if not beta > 0:
            raise ValueError(f"beta must be over 0, got {beta}")
        if not margin >= 0:
            raise ValueError(f"margin must be 0 or more, got {margin}")
        if longest_px < 8:
            raise ValueError(f"longest_px must be at least 8, got {longest_px}")
        self.beta, self.margin, self.longest_px = beta, margin, longest_px

    def encode(self, image: Tensor) -> _Image:
        """(H, W) in [0, 1]: nothing to compute."""
        return _Image(image.detach().float().cpu().numpy(), image.device)

    def decode(self, encoded: _Image, prompts: SpatialPrompts) -> SegmentedPrompts:
        """Walk for each prompt; the score is the mean probability inside the mask, 0 for an empty one."""
        size = (encoded.grey.shape[0], encoded.grey.shape[1])
        if len(prompts) == 0:
            return nothing(size, encoded.device)
        maps = np.stack([self._walk(encoded.grey, *_row(prompts, n)) for n in range(len(prompts))])
        masks = maps > 0.5
        scores = np.where(masks, maps, 0).sum((1, 2)) / np.maximum(masks.sum((1, 2)), 1)
        probabilities = torch.from_numpy(maps.astype(np.float32)).to(encoded.device)
        return SegmentedPrompts(probabilities, torch.from_numpy(scores.astype(np.float32)).to(encoded.device))

    def _walk(self, grey: Grey, box: Tensor | None, points: Tensor | None, coarse: Tensor | None) -> Grey:
        height, width = grey.shape
        seeds: Seeds = np.zeros(grey.shape, dtype=np.int8)
        rows, columns = slice(0, height), slice(0, width)
        if box is not None:
            rows, columns = self._open(box.tolist(), height, width)
            closed = np.ones(grey.shape, dtype=bool)
            closed[rows, columns] = False
            seeds[closed] = _OUTSIDE
        if coarse is not None:
            mask = coarse.cpu().numpy() & (seeds == 0)
            if mask.any():
                depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
                seeds[depth >= max(depth.max() / 2, 1)] = _INSIDE
        if points is not None:
            for x, y, label in points.tolist():  # a handful of clicks
                row, column = min(max(int(y), 0), height - 1), min(max(int(x), 0), width - 1)
                seeds[row, column] = _INSIDE if label == 1 else _OUTSIDE
        if not (seeds == _INSIDE).any() and box is not None:
            seeds[_middle(rows), _middle(columns)] = _INSIDE
        # A ring of the closed part comes along, which the walker has to meet; wide enough to outlive the shrinking.
        wide = math.ceil(max(rows.stop - rows.start, columns.stop - columns.start) / self.longest_px) + 1
        ring = (
            slice(max(rows.start - wide, 0), rows.stop + wide),
            slice(max(columns.start - wide, 0), columns.stop + wide),
        )
        result = np.zeros_like(grey)
        result[ring] = self._solve(grey[ring], seeds[ring])
        result[seeds == _OUTSIDE] = 0
        return result

    def _open(self, box: list[float], height: int, width: int) -> tuple[slice, slice]:
        x_min, y_min, x_max, y_max = box
        dx, dy = self.margin * (x_max - x_min), self.margin * (y_max - y_min)
        top = min(max(int(np.floor(y_min - dy)), 0), height - 1)
        left = min(max(int(np.floor(x_min - dx)), 0), width - 1)
        bottom, right = min(int(np.ceil(y_max + dy)) + 1, height), min(int(np.ceil(x_max + dx)) + 1, width)
        return slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))

    def _solve(self, grey: Grey, seeds: Seeds) -> Grey:
        inside = seeds == _INSIDE
        if not inside.any() or not (seeds == _OUTSIDE).any():
            # With one kind of seed every walker ends there: all of it with inside seeds, none of it without.
            return np.full(grey.shape, float(inside.any()), dtype=np.float32)
        scale = min(self.longest_px / max(grey.shape), 1.0)
        if scale < 1:
            small = (max(round(grey.shape[0] * scale), 1), max(round(grey.shape[1] * scale), 1))
            reduced = self._solve(_resize(grey, small, mode="area"), _thin(seeds, small))
            return _resize(reduced, (grey.shape[0], grey.shape[1]), mode="bilinear")
        if not (seeds == 0).any():
            return np.asarray(inside, dtype=np.float32)
        return first_reach(grey, inside, seeds == _OUTSIDE, self.beta).astype(np.float32)


def _middle(side: slice) -> slice:
    """The middle quarter of a side, one pixel at least."""
    length = side.stop - side.start
    start = side.start + (3 * length) // 8
    return slice(start, max(side.start + (5 * length) // 8, start + 1))


def _row(prompts: SpatialPrompts, n: int) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    points = None
    if prompts.points is not None and prompts.point_labels is not None:
        real = prompts.point_labels[n] >= 0
        points = torch.cat([prompts.points[n], prompts.point_labels[n, :, None].to(prompts.points)], dim=1)[real]
    box = None if prompts.boxes is None else prompts.boxes[n]
    return box, points, None if prompts.coarse_masks is None else prompts.coarse_masks[n]


def _resize(image: Grey, size: tuple[int, int], mode: str) -> Grey:
    resized: Grey = F.interpolate(torch.from_numpy(image)[None, None], size=size, mode=mode)[0, 0].numpy()
    return resized


def _thin(seeds: Seeds, size: tuple[int, int]) -> Seeds:
    """Shrink a seed map so that no seed is lost: inside wins, outside only where it fills its cell."""
    tensor = torch.from_numpy(seeds)[None].float()
    inside = F.adaptive_max_pool2d((tensor == _INSIDE).float(), size)[0] > 0
    outside = F.adaptive_avg_pool2d((tensor == _OUTSIDE).float(), size)[0] > 0.5
    return np.where(inside, _INSIDE, np.where(outside, _OUTSIDE, 0)).astype(np.int8)
