"""SAM, MedSAM and SAM 2 through transformers, from a hub id or a local folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Sam2ImageProcessor, Sam2Model, SamImageProcessor, SamModel

from medzeroseg.imaging.errors import InputError
from medzeroseg.segmenters.base import PADDING_POINT, PromptableSegmenter, SegmentedPrompts, SpatialPrompts, nothing


@dataclass(frozen=True)
class SamImage:
    """An encoded image.

    Attributes:
        embeddings: What the mask decoder needs: one tensor (SAM) or one a feature level (SAM 2).
        original_size: (H, W) of the image in pixels.
        resized: (H, W) that the image was given inside the padded square that the encoder saw.
    """

    embeddings: Tensor | list[Tensor]
    original_size: tuple[int, int]
    resized: tuple[int, int]


class SamSegmenter(PromptableSegmenter):
    """Segment Anything (Kirillov et al., ICCV 2023, arXiv 2304.02643); Apache-2.0 weights of their authors.

    A box gives one mask. Points alone are ambiguous (part, whole): three masks are made and the one that the model
    itself believes in most is kept.

    Weights are read from safetensors, or from a `.bin` as data alone (`weights_only`); no code of a repository runs.
    """

    model_class: Any = SamModel
    processor_class: Any = SamImageProcessor

    def __init__(self, name: str = "facebook/sam-vit-base", local_files_only: bool = False) -> None:
        """Load the model.

        Args:
            name: A hub id, or a folder in transformers' form (config.json, model.safetensors,
                preprocessor_config.json); a folder needs no network.
            local_files_only: Never go to the network, also for a hub id: use what was loaded before.

        Raises:
            InputError: There is no such folder or model, or it is of another kind.
        """
        super().__init__()
        self.name = name
        self.model = load_pretrained(self.model_class, name, local_files_only).eval().requires_grad_(False)
        self.processor = load_pretrained(self.processor_class, name, local_files_only)

    @torch.no_grad()
    def encode(self, image: Tensor) -> SamImage:
        """(H, W) in [0, 1] -> embeddings; the grey is repeated in three channels."""
        pixels, resized = self.prepare(image)
        embeddings = self.model.get_image_embeddings(pixels.to(self.model.device))
        return SamImage(embeddings, (image.shape[0], image.shape[1]), resized)

    @torch.no_grad()
    def decode(self, encoded: SamImage, prompts: SpatialPrompts) -> SegmentedPrompts:
        """All prompts of the image in one call of the mask decoder, or one for each number of points."""
        if len(prompts) == 0:
            return nothing(encoded.original_size, self.model.device)
        logits, scores = self._decode_alike(encoded, prompts)
        return SegmentedPrompts(self._to_original(logits, encoded).sigmoid(), scores)

    def _decode_alike(self, encoded: SamImage, prompts: SpatialPrompts) -> tuple[Tensor, Tensor]:
        """Prompts with equally many points go together: a padded point would be looked at, if only as nothing."""
        if prompts.points is None or prompts.point_labels is None:
            return self._decode(encoded, prompts.boxes, None, None)
        real = prompts.point_labels != PADDING_POINT
        order = (~real).int().argsort(dim=1, stable=True)
        labels = prompts.point_labels.gather(1, order)
        points = prompts.points.gather(1, order[..., None].expand(-1, -1, 2))
        counts = real.sum(dim=1)
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for count in sorted(set(counts.tolist())):
            rows = (counts == count).nonzero()[:, 0]
            boxes = None if prompts.boxes is None else prompts.boxes[rows]
            if count == 0 and boxes is None:
                raise ValueError("prompts need a box or at least one point each")
            part = (points[rows, :count], labels[rows, :count]) if count else (None, None)
            parts.append((rows, *self._decode(encoded, boxes, *part)))
        back = torch.cat([rows for rows, *_ in parts]).argsort().to(self.model.device)
        logits, scores = (torch.cat([part[n] for part in parts])[back] for n in (1, 2))
        return logits, scores

    def _decode(
        self, encoded: SamImage, boxes: Tensor | None, points: Tensor | None, labels: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """One call of the mask decoder: N logits over the padded square, and the belief in each."""
        scale = torch.tensor([r / o for r, o in zip(encoded.resized, encoded.original_size, strict=True)]).flip(0)
        arguments: dict[str, Tensor] = {}
        if boxes is not None:
            arguments["input_boxes"] = (boxes.float().cpu() * scale.repeat(2))[None]
        if points is not None and labels is not None:
            arguments["input_points"] = (points.float().cpu() * scale)[None]
            arguments["input_labels"] = labels.cpu()[None].int()
        found = self.model(
            image_embeddings=encoded.embeddings,
            multimask_output=boxes is None,
            **{key: value.to(self.model.device) for key, value in arguments.items()},
        )
        scores, best = found.iou_scores[0].float().max(dim=1)
        return found.pred_masks[0][torch.arange(len(best), device=best.device), best].float(), scores

    def prepare(self, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """What the encoder sees: (1, 3, S, S), and the (H, W) that the image takes up in it, top left."""
        rgb = image.detach().float().cpu().clamp(0, 1).expand(3, -1, -1)
        inputs = self.processor(images=[rgb], do_rescale=False, return_tensors="pt")
        height, width = (int(side) for side in inputs["reshaped_input_sizes"][0])
        return inputs["pixel_values"], (height, width)

    def _to_original(self, logits: Tensor, encoded: SamImage) -> Tensor:
        """(N, h, w) logits over the padded square -> (N, H, W) over the image."""
        square = self.processor.pad_size
        padded = _resize(logits, (square["height"], square["width"]))
        return _resize(padded[:, : encoded.resized[0], : encoded.resized[1]], encoded.original_size)


class MedSamSegmenter(SamSegmenter):
    """MedSAM: SAM fine-tuned on medical images (Ma et al., Nature Communications 2024); Apache-2.0 weights.

    It was trained on images stretched to the square, scaled to [0, 1] by their own range, without SAM's mean and
    standard deviation, and on boxes alone: points are left out where there is a box, and refused where there is none.
    """

    def __init__(self, name: str = "wanglab/medsam-vit-base", local_files_only: bool = False) -> None:
        """Load the model; see `SamSegmenter`."""
        super().__init__(name, local_files_only)

    def prepare(self, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Stretch to the square and scale by the image's own range."""
        square = (self.processor.pad_size["height"], self.processor.pad_size["width"])
        stretched = F.interpolate(image[None, None].float().cpu(), square, mode="bicubic", antialias=True)
        low, high = stretched.amin(), stretched.amax()
        scaled = (stretched - low) / (high - low).clamp_min(1e-8)
        return scaled.expand(-1, 3, -1, -1), square

    def decode(self, encoded: SamImage, prompts: SpatialPrompts) -> SegmentedPrompts:
        """Segment the boxes.

        Raises:
            ValueError: There are points alone.
        """
        if prompts.boxes is None:
            raise ValueError("MedSAM was trained on boxes: give it boxes, or use SamSegmenter for points")
        return super().decode(encoded, SpatialPrompts(boxes=prompts.boxes))


class Sam2Segmenter(SamSegmenter):
    """SAM 2 on single images (Ravi et al., 2024, arXiv 2408.00714); Apache-2.0 weights of their authors.

    Images are stretched to the square.
    """

    model_class: Any = Sam2Model
    processor_class: Any = Sam2ImageProcessor

    def __init__(self, name: str = "facebook/sam2.1-hiera-tiny", local_files_only: bool = False) -> None:
        """Load the model; see `SamSegmenter`."""
        super().__init__(name, local_files_only)

    def prepare(self, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Stretch to the square."""
        rgb = image.detach().float().cpu().clamp(0, 1).expand(3, -1, -1)
        pixels = self.processor(images=[rgb], do_rescale=False, return_tensors="pt")["pixel_values"]
        return pixels, (pixels.shape[2], pixels.shape[3])

    def _to_original(self, logits: Tensor, encoded: SamImage) -> Tensor:
        return _resize(logits, encoded.original_size)


def load_pretrained(kind: Any, name: str, local_files_only: bool) -> Any:  # noqa: ANN401 - transformers' classes
    """Load a part of a model with transformers, from a folder or a hub id, without running its code.

    Raises:
        InputError: It is not there, or not of this kind.
    """
    looks_like_a_path = name.startswith((".", "/", "~")) or Path(name).expanduser().exists()
    folder = Path(name).expanduser()
    if looks_like_a_path and not folder.is_dir():
        raise InputError(f"{name}: there is no such folder; a segmenter's folder holds config.json and its weights")
    source = str(folder) if looks_like_a_path else name
    if looks_like_a_path and not (folder / "config.json").is_file():
        raise InputError(f"{name}: no config.json in the folder; save the model there with save_pretrained")
    try:
        return kind.from_pretrained(source, local_files_only=local_files_only or looks_like_a_path)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{name}: cannot be loaded as {kind.__name__}: {first}") from error


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
