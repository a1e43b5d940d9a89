"""A zero-shot method: saliency, calibration, post-processing, and optionally a promptable segmenter."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medzeroseg.models import ImageTextModel
from medzeroseg.postprocessing import (
    LargestComponents,
    LargestVolumes,
    Otsu,
    PostProcessing,
    boxes_from_masks,
    points_from_masks,
)
from medzeroseg.saliency import SaliencyMethod, resize_maps
from medzeroseg.segmenters import PromptableSegmenter, SpatialPrompts
from medzeroseg.zero_shot.calibration import Calibration, MeanOfPrompts, scale_over_case


@dataclass(frozen=True)
class CaseSegmentation:
    """What was found in a case.

    Attributes:
        masks: (P, D, H, W) bool, one for each prompt; they may overlap.
        maps: (D, P, h, w) float32 in [0, 1], calibrated saliency on its own grid, one scale for the whole case.
        confidence: (P, D, H, W) float16 in [0, 1], to tell overlaps apart: the segmenter's probability where there is
            one, else the calibration's (`Calibration.gives_probabilities`), else the saliency on the scale of `maps`.
    """

    masks: Tensor
    maps: Tensor
    confidence: Tensor

    def native_maps(self, prompt: int) -> Tensor:
        """The saliency of one prompt at the images' size: (D, H, W) float32."""
        size = (self.masks.shape[2], self.masks.shape[3])
        return resize_maps(self.maps[:, prompt : prompt + 1], size)[:, 0]


class ZeroShotMethod(nn.Module):
    """Text-prompted segmentation without masks in training (Figure 1 of the publication).

    saliency -> calibration over prompts -> one scale a case -> post-processing (CRF, threshold, components; of a volume
    across its slices) -> boxes and points -> segmenter -> mask. Nothing depends on the batch in which a slice came.

    Args:
        saliency: Makes the maps.
        postprocessing: Makes masks of them; None: Otsu's threshold and the largest component, or the two largest
            where they are alike in size, as lungs are.
        segmenter: Redraws each mask from its box; None: the masks stay.
        calibration: Compares prompts.
        title: Name in tables; None: the saliency's.
        points: Positive points given to the segmenter beside the box.
        negative_points: Negative points, likewise.
        slices_at_a_time: Slices post-processed together; bounds the memory, changes nothing else.
        guided: Hand the model's dense features to the post-processing (DPFEM-guided CRF).
        baseline: There to be beaten; marked in tables.
        volume: What of the slices' masks is kept together, before the segmenter; None: all.
        chosen_on_validation: Chosen among variants by masks of validation cases; tables say so. Changes no mask.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        saliency: SaliencyMethod,
        postprocessing: PostProcessing | None = None,
        segmenter: PromptableSegmenter | None = None,
        calibration: Calibration | None = None,
        title: str | None = None,
        points: int = 0,
        negative_points: int = 0,
        slices_at_a_time: int = 16,
        guided: bool = False,
        baseline: bool = False,
        volume: LargestVolumes | None = None,
        chosen_on_validation: bool = False,
    ) -> None:
        super().__init__()
        if points < 0 or negative_points < 0:
            raise ValueError(f"points and negative_points must be 0 or more, got {points} and {negative_points}")
        if slices_at_a_time < 1:
            raise ValueError(f"slices_at_a_time must be at least 1, got {slices_at_a_time}")
        self.saliency = saliency
        self.postprocessing = postprocessing or PostProcessing([Otsu(), LargestComponents(2, least_share=0.5)])
        self.segmenter = segmenter
        self.calibration = calibration or MeanOfPrompts()
        self.title = title or saliency.title
        self.points, self.negative_points = points, negative_points
        self.slices_at_a_time = slices_at_a_time
        self.guided = guided
        self.baseline = baseline
        self.volume = volume
        self.chosen_on_validation = chosen_on_validation

    def check_model(self, model: ImageTextModel) -> None:
        """Refuse a model that the method cannot work on.

        Raises:
            ValueError: The saliency cannot read it, or it has no DPFEM to guide the post-processing.
        """
        self.saliency.check_model(model)
        if self.guided and model.dpfem is None:
            raise ValueError(f"model has no DPFEM, which guides '{self.title}': build it with dpfem")

    @torch.no_grad()
    def forward(
        self,
        raw_maps: Tensor,
        images: Tensor,
        asked: int,
        features: Tensor | None = None,
        projection: bool = False,
    ) -> CaseSegmentation:
        """Segment a case from the raw saliency of its slices.

        Args:
            raw_maps: (D, P + C, h, w), of the prompts asked for and of those for comparison.
            images: (D, H, W) float in [0, 1], windowed, at their own size.
            asked: P.
            features: (D, F, h, w) dense features that guide the CRF, or None.
            projection: Whether the images show several structures at one place (`PromptLibrary.projections`).

        Returns:
            Masks and maps of the P prompts.
        """
        calibrated = self.calibration(raw_maps.float(), asked, projection)
        maps = scale_over_case(calibrated)
        parts = [slice(at, at + self.slices_at_a_time) for at in range(0, len(images), self.slices_at_a_time)]
        found, confidences = [], []
        for part in parts:
            saliency = _at_size(maps[part], images)
            mask = self.postprocessing(saliency, images[part], None if features is None else features[part])
            found.append(mask.transpose(0, 1))
            sureness = _at_size(calibrated[part], images) if self.calibration.gives_probabilities else saliency
            confidences.append(sureness.transpose(0, 1).half())
        masks = torch.cat(found, dim=1)
        if self.volume is not None:
            masks = self.volume(masks)
        if self.segmenter is not None:
            redrawn = [self._redraw(self.segmenter, masks[:, part].transpose(0, 1), images[part]) for part in parts]
            masks = torch.cat([mask.transpose(0, 1) for mask, _ in redrawn], dim=1)
            confidences = [confidence.transpose(0, 1).half() for _, confidence in redrawn]
        return CaseSegmentation(masks, maps, torch.cat(confidences, dim=1))

    def _redraw(self, segmenter: PromptableSegmenter, masks: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, P, H, W) masks -> the segmenter's, and its probabilities; an empty mask stays empty."""
        boxes = boxes_from_masks(masks)
        found = torch.zeros(masks.shape, device=masks.device)
        points, labels = None, None
        if self.points or self.negative_points:
            points, labels = points_from_masks(masks, self.points, self.negative_points)
        present = masks.flatten(2).any(dim=2)
        for n in present.any(dim=1).nonzero()[:, 0].tolist():  # slices: each is encoded once for all its prompts
            rows = present[n]
            prompts = SpatialPrompts(
                boxes=boxes[n, rows],
                points=None if points is None else points[n, rows],
                point_labels=None if labels is None else labels[n, rows],
                coarse_masks=masks[n, rows],
            )
            found[n, rows] = segmenter.decode(segmenter.encode(images[n]), prompts).probabilities.to(found)
        return found > 0.5, found


def _at_size(maps: Tensor, images: Tensor) -> Tensor:
    """Maps in [0, 1] at the images' size; interpolating between ones can give a little more than one."""
    return resize_maps(maps, (images.shape[1], images.shape[2])).clamp(0, 1)
