"""One image in, one result out; model, method and prompts are loaded once for many images."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from medzeroseg.errors import ConfigurationError
from medzeroseg.imaging import Volume, square_picture
from medzeroseg.inference.prompting import EmbeddedPrompts, embed
from medzeroseg.inference.request import SegmentationRequest
from medzeroseg.inference.results import LabelResult, SegmentationResult, voxel_sizes
from medzeroseg.inference.viewing import View, look_at, require_known
from medzeroseg.models import ImageTextModel
from medzeroseg.prompts import PromptLibrary
from medzeroseg.saliency import resize_maps
from medzeroseg.zero_shot import CaseSegmentation, ZeroShotMethod, highest_confidence, resolve_overlaps

Progress = Callable[[int, int], None]
"""Told how many slices of how many have passed the model."""

_VOXELS_AT_A_TIME = 1 << 22


class Segmenter:
    """Segments images from text.

    The texts are embedded once for each modality. Slices pass the model in batches, all labels together; the method's
    segmenter encodes a slice once for all its labels. Results do not depend on the batch size.

    Args:
        model: The image-text model.
        method: Saliency, calibration, post-processing and segmenter.
        request: What to look for.
        library: Templates and synonyms; None for the packaged ones.
        compare_with: Structures whose prompts only serve the calibration; None: the neighbours of the modality.
        device: Where to compute.

    Raises:
        ConfigurationError: The method does not fit the model, or the modality is unknown.
    """

    def __init__(
        self,
        model: ImageTextModel,
        method: ZeroShotMethod,
        request: SegmentationRequest,
        library: PromptLibrary | None = None,
        compare_with: Sequence[str] | None = None,
        device: torch.device | None = None,
    ) -> None:
        try:
            method.check_model(model)
        except ValueError as error:
            raise ConfigurationError(f"method: {error}") from error
        self.device = device or torch.device("cpu")
        self.model = model.to(self.device).eval()
        self.method = method.to(self.device).eval()
        self.request = request
        self.library = library or PromptLibrary.load()
        require_known(request.modality, self.library.templates)
        self.compare_with = compare_with
        self._transform = model.image_transform(train=False)
        self._prompts: dict[str, EmbeddedPrompts] = {}

    def __call__(
        self, volume: Volume, path: Path, progress: Progress | None = None, read_seconds: float = 0.0
    ) -> SegmentationResult:
        """Segment an image.

        Args:
            volume: As read.
            path: Where it came from; its file name seeds the noise of methods that draw some.
            progress: Called after each batch of slices.
            read_seconds: What reading took, for the record.

        Raises:
            InputError: The image is too small.
            ConfigurationError: The window does not fit it.
            SaliencyError: Model or image hold values that are not finite.
        """
        seconds = {"read": read_seconds}
        with _timed(seconds, "look", self.device):
            view = look_at(volume, path, self.request, self.library.templates)
            prompts = self.prompts(view.modality)
            maps, scores, features, layer = self._look(view, prompts, path.name, progress)
        with _timed(seconds, "masks", self.device):
            grey = torch.from_numpy(view.grey).to(self.device)
            shown = _at_most(grey, self.request.longest_px)
            projection = view.modality in self.library.projections
            case = self.method(maps, shown, len(self.request.text), features, projection)
            best_scores = scores[:, : len(self.request.text)].amax(dim=0).tolist()
            dropped = self._drop_low(case, best_scores)
            labels, overlaps, counts = _label_map(case, view.volume.shape)
            described = self._describe(view, prompts, counts, best_scores, dropped)
        return SegmentationResult(
            path=path,
            view=view,
            view_labels=labels,
            maps=case.maps.float().cpu().numpy(),
            labels=described,
            overlap_voxels=overlaps,
            layer=layer,
            notes=(*volume.notes, *view.notes, *prompts.cut),
            seconds=seconds,
        )

    def prompts(self, modality: str) -> EmbeddedPrompts:
        """The embedded prompts of a modality, made once."""
        if modality not in self._prompts:
            self._prompts[modality] = embed(self.model, self.library, self.request.text, self.compare_with, modality)
        return self._prompts[modality]

    def _look(
        self, view: View, prompts: EmbeddedPrompts, key: str, progress: Progress | None
    ) -> tuple[Tensor, Tensor, Tensor | None, str]:
        """Raw maps (D, P + C, h, w), scores (D, P + C), features (D, F, h, w) or None, and the layer used."""
        maps, scores, features, layer = [], [], [], ""
        count = len(view.grey)
        for start in range(0, count, self.request.batch_size):
            numbers = range(start, min(start + self.request.batch_size, count))
            images = torch.stack([self._transform(self._picture(view, n)) for n in numbers]).to(self.device)
            keys = [f"{key}/{n}" for n in numbers]
            with torch.no_grad():
                found = self.method.saliency(self.model, images, prompts.embeddings, keys=keys)
                if self.method.guided:
                    features.append(self.model.dense_features(images))
            maps.append(found.maps)
            scores.append(found.scores)
            layer = found.layer
            if progress is not None:
                progress(numbers.stop, count)
        return torch.cat(maps), torch.cat(scores), torch.cat(features) if features else None, layer

    def _picture(self, view: View, number: int) -> Image.Image:
        """What the model is shown: a colour picture in its colours, everything else in grey."""
        side_px = self.model.image_size_px[0]
        if view.volume.rgb is None or self.request.window is not None:
            return square_picture(view.grey[number], side_px)
        picture = Image.fromarray(np.ascontiguousarray(view.volume.rgb[number]))
        return picture.resize((side_px, side_px), Image.Resampling.BICUBIC)

    def _drop_low(self, case: CaseSegmentation, scores: Sequence[float]) -> list[bool]:
        """Empty the masks of labels whose score is under the least that was asked for."""
        least = self.request.min_score
        dropped = [least is not None and score < least for score in scores]
        case.masks[torch.tensor(dropped, device=case.masks.device)] = False
        return dropped

    def _describe(
        self, view: View, prompts: EmbeddedPrompts, counts: "_Counts", scores: Sequence[float], dropped: Sequence[bool]
    ) -> tuple[LabelResult, ...]:
        area_mm2, voxel_ml = voxel_sizes(view.volume)
        single = len(view.grey) == 1
        labels = []
        for n, text in enumerate(self.request.text):
            voxels, claimed = int(counts.by_slice[n].sum()), int(counts.claimed[n])
            why_not = ""
            if dropped[n]:
                why_not = f"its score {scores[n]:.3f} is under the least score {self.request.min_score:g}"
            elif not claimed:
                why_not = "nothing in the image stands out for these words"
            elif not voxels:
                why_not = "other labels claim all of its places with more confidence"
            labels.append(
                LabelResult(
                    label=n + 1,
                    text=text,
                    prompts=prompts.prompts[n].texts,
                    found=not why_not,
                    why_not=why_not,
                    score=scores[n],
                    confidence=float(counts.confidence[n]) / max(claimed, 1),
                    voxels=voxels,
                    claimed_voxels=claimed,
                    overlap_voxels=int(counts.overlapping[n]),
                    area_mm2=None if area_mm2 is None or not single else voxels * area_mm2,
                    volume_ml=None if voxel_ml is None or single else voxels * voxel_ml,
                    largest_slice=int(counts.by_slice[n].argmax()) if voxels else None,
                )
            )
        return tuple(labels)


@dataclass(frozen=True)
class _Counts:
    """Voxels of P labels: (P, D) in the label map; (P,) claimed, claimed by others as well, and summed confidence."""

    by_slice: npt.NDArray[np.int64]
    claimed: npt.NDArray[np.int64]
    overlapping: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]


def _label_map(case: CaseSegmentation, shape: tuple[int, int, int]) -> tuple[npt.NDArray[np.uint8], int, _Counts]:
    """One label map (D, H, W) of all masks, a few slices at a time; how many voxels were claimed twice; counts."""
    asked, (depth, height, width) = len(case.masks), shape
    labels = np.empty(shape, np.uint8)
    counts = _Counts(
        np.zeros((asked, depth), np.int64),
        np.zeros(asked, np.int64),
        np.zeros(asked, np.int64),
        np.zeros(asked, np.float64),
    )
    overlaps = 0
    highest = highest_confidence(case.masks, case.confidence)[:, None]
    step = max(1, _VOXELS_AT_A_TIME // (height * width))
    for start in range(0, depth, step):
        part = slice(start, min(start + step, depth))
        masks, confidence = _at_size(case, part, (height, width))
        pieces = [torch.split(values.flatten(1), _VOXELS_AT_A_TIME, dim=1) for values in (masks, confidence)]
        resolved = [resolve_overlaps(claims, sure / highest) for claims, sure in zip(*pieces, strict=True)]
        part_labels = torch.cat([piece for piece, _ in resolved]).reshape(masks.shape[1:])
        overlaps += sum(count for _, count in resolved)
        labels[part] = part_labels.cpu().numpy()
        contested = masks.sum(dim=0, dtype=torch.uint8) > 1
        for n in range(asked):  # one label's temporaries at a time: pictures can have tens of millions of pixels
            counts.by_slice[n, part] = (part_labels == n + 1).flatten(1).sum(dim=1).cpu().numpy()
            counts.claimed[n] += int(masks[n].sum())
            counts.overlapping[n] += int((masks[n] & contested).sum())
            counts.confidence[n] += float(confidence[n][masks[n]].double().sum())
    return labels, overlaps, counts


def _at_size(case: CaseSegmentation, part: slice, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Masks and confidence (P, n, H, W) of some slices, enlarged where they were made smaller."""
    masks, confidence = case.masks[:, part], case.confidence[:, part]
    if masks.shape[2:] == size:
        return masks, confidence
    return resize_maps(masks.float(), size) > 0.5, resize_maps(confidence.float(), size).half()


def _at_most(grey: Tensor, longest_px: int) -> Tensor:
    """Slices (D, H, W), shrunk so that no side is longer."""
    scale = longest_px / max(grey.shape[1:])
    if scale >= 1:
        return grey
    size = [max(1, round(side * scale)) for side in grey.shape[1:]]
    return F.interpolate(grey[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)


@contextmanager
def _timed(seconds: dict[str, float], stage: str, device: torch.device) -> Iterator[None]:
    start = time.perf_counter()
    yield
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds[stage] = time.perf_counter() - start
