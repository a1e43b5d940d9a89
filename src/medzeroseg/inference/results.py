"""What was found in an image."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medzeroseg.imaging import Volume, from_display
from medzeroseg.inference.viewing import View


@dataclass(frozen=True)
class LabelResult:
    """One structure.

    Attributes:
        label: Its id in the label map, from 1.
        text: As asked for.
        prompts: The sentences whose embeddings were averaged.
        found: Whether the label map holds it. Not found is an answer.
        why_not: One sentence where it was not found, else "".
        score: Highest score of a slice: the cosine of text and slice, -1..1, or with `PatchTextEvidence` the
            probability that the slice shows it; comparable within one model alone.
        confidence: Mean within its mask, 0..1, of the segmenter's probability; without a segmenter of the
            calibration's, where it gives one, else of the saliency; 0 without a mask.
        voxels: In the label map (pixels, for a picture).
        claimed_voxels: Before overlaps were resolved.
        overlap_voxels: Of those, how many another label claimed as well.
        area_mm2: Of a single slice, where the size of its pixels is known.
        volume_ml: Of a volume, where the size of its voxels is known.
        largest_slice: The slice of the view that holds most of it, or None.
    """

    label: int
    text: str
    prompts: tuple[str, ...]
    found: bool
    why_not: str
    score: float
    confidence: float
    voxels: int
    claimed_voxels: int
    overlap_voxels: int
    area_mm2: float | None
    volume_ml: float | None
    largest_slice: int | None


@dataclass(frozen=True)
class SegmentationResult:
    """An image and what was found in it.

    Attributes:
        path: The input.
        view: The image as it was looked at.
        view_labels: (D, H, W) uint8 label ids on the view's axes.
        maps: (D, P, h, w) float32 in [0, 1]: calibrated saliency of each label on its own grid, on the view's axes.
        labels: One a text.
        overlap_voxels: Voxels that several labels claimed; each went to the label with the highest confidence.
        layer: Where in the model the saliency comes from.
        notes: What was left out, replaced, cut or assumed, in sentences.
        seconds: Stage -> time; "read", "look", "masks".
        files: Kind -> name in the folder of results, where they were written.
        folder: That folder.
    """

    path: Path
    view: View
    view_labels: npt.NDArray[np.uint8]
    maps: npt.NDArray[np.float32]
    labels: tuple[LabelResult, ...]
    overlap_voxels: int
    layer: str
    notes: tuple[str, ...]
    seconds: Mapping[str, float]
    files: tuple[str, ...] = ()
    folder: Path | None = None

    @property
    def label_map(self) -> npt.NDArray[np.uint8]:
        """(D, H, W) label ids in the input's own axes, as `medzeroseg.imaging.read_image` gives it."""
        return from_display(self.view_labels, self.view.volume)

    @property
    def found(self) -> tuple[LabelResult, ...]:
        """The labels that were found."""
        return tuple(label for label in self.labels if label.found)

    def saliency(self, label: int) -> npt.NDArray[np.float32]:
        """The saliency of a label at the image's size: (D, H, W) float32 in [0, 1], in the input's own axes.

        Args:
            label: Its id, from 1.
        """
        return from_display(self.view_saliency(label), self.view.volume)

    def view_saliency(self, label: int) -> npt.NDArray[np.float32]:
        """The same on the view's axes."""
        import torch

        from medzeroseg.saliency import resize_maps

        maps = torch.from_numpy(self.maps[:, label - 1 : label])
        resized: npt.NDArray[np.float32] = resize_maps(maps, self.view.volume.shape[1:]).numpy()[:, 0]
        return resized


def voxel_sizes(volume: Volume) -> tuple[float | None, float | None]:
    """Area of a pixel in mm², volume of a voxel in ml; None where it is not known."""
    if volume.geometry is not None:
        linear = volume.geometry.affine_ras_mm[:3, :3]
        area = float(np.linalg.norm(np.cross(linear[:, 1], linear[:, 2])))
        return area, abs(float(np.linalg.det(linear))) / 1000
    spacing = np.array(volume.spacing_mm or (np.nan,) * 3)
    area, ml = float(spacing[1] * spacing[2]), float(spacing.prod() / 1000)
    return (area if np.isfinite(area) else None), (ml if np.isfinite(ml) else None)


def plain(label: LabelResult) -> dict[str, Any]:
    """A label as plain values for JSON."""
    return {**vars(label), "prompts": list(label.prompts)}
