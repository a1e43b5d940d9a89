"""How the maps of a few prompts change while a model trains."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from medzeroseg.callbacks.choosing import evenly_spaced
from medzeroseg.callbacks.segmentation_drawing import cell, grey_levels
from medzeroseg.dashboard import tensorboards
from medzeroseg.figures.painting import heat, outline
from medzeroseg.prompts import Prompt, embed_prompts
from medzeroseg.saliency import PatchTextEvidence, PatchTextSimilarity, SaliencyMethod, resize_maps

_CELL_PX, _LINE_PX, _CHARACTERS = 144, 14, 24


@dataclass(frozen=True)
class MapRow:
    """A picture and the maps of some prompts.

    Attributes:
        image: (H, W) in [0, 1].
        maps: Prompt -> map (H, W) in [0, 1].
        references: Prompt -> (H, W) bool, outlined in its map; only those that are known.
    """

    image: Tensor
    maps: dict[str, Tensor]
    references: dict[str, Tensor]


class SaliencyEvolution(Callback):
    """Every few epochs, shows where a few prompts point in a few validation pictures (`val/saliency`).

    Pictures whose structures are known by name and place are asked for their largest ones, outlined in white where the
    picture is square; others are asked for their caption. Which pictures: evenly spaced in the validation split, one or
    more of each kind. Each map is stretched to its own range: the place counts, not the height. Rank 0 draws; the model
    is in evaluation mode meanwhile, and nothing random is drawn that the training would miss.

    Args:
        every_n_epochs: How often.
        pictures: How many pictures, at least one of each kind.
        prompts: How many structures of each.
        saliency: Makes the maps; None: `PatchTextEvidence` of a model with a patch tower, else `PatchTextSimilarity`.

    Raises:
        ValueError: A number is below 1.
    """

    def __init__(
        self, every_n_epochs: int = 1, pictures: int = 3, prompts: int = 3, saliency: SaliencyMethod | None = None
    ) -> None:
        if min(every_n_epochs, pictures, prompts) < 1:
            raise ValueError(
                f"every_n_epochs, pictures and prompts must be at least 1, got {every_n_epochs}, {pictures}, {prompts}"
            )
        self.every_n_epochs, self.pictures, self.prompts, self.saliency = every_n_epochs, pictures, prompts, saliency
        self._records: list[Any] = []

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the pictures."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
        self._records = choose_pictures(data.datasets["val"].records, self.pictures) if tensorboards(trainer) else []

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        if not self._records or (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        task: Any = pl_module
        was_training = task.training
        task.eval()
        try:
            sheet = draw_map_rows([self._look(task, record) for record in self._records])
        finally:
            task.train(was_training)
        for writer in tensorboards(trainer):
            writer.add_image("val/saliency", np.asarray(sheet), trainer.global_step, dataformats="HWC")

    def _look(self, task: Any, record: Any) -> MapRow:  # noqa: ANN401
        model = task.model
        default = PatchTextSimilarity() if model.patch_tower is None else PatchTextEvidence()
        references = largest_structures(record, self.prompts)
        if references:
            prompts = [task.library.prompt(name, record.structures.kind) for name in references]
        else:
            prompts = [Prompt(record.caption, (record.caption,))]
        texts = embed_prompts(model, prompts)
        image = model.image_transform(train=False)(record.source.read()).to(texts.device)
        size = (image.shape[1], image.shape[2])
        maps = (self.saliency or default)(model, image[None], texts, keys=[record.case_id]).maps
        shown = _stretched(resize_maps(maps, size)[0].float().cpu())
        return MapRow(
            image=_stretched(image.float().mean(dim=0, keepdim=True).cpu())[0],
            maps={prompt.structure: values for prompt, values in zip(prompts, shown, strict=True)},
            references={name: _at_size(mask, size) for name, mask in references.items() if _is_square(mask)},
        )


def choose_pictures(records: Sequence[Any], count: int) -> list[Any]:
    """Records evenly spaced, of each kind of picture at least one; of those with known structures, if there are any.

    Args:
        records: `ImageTextRecord`s.
        count: How many.
    """
    known = [record for record in records if record.structures is not None]
    by_kind: dict[str, list[Any]] = {}
    for record in known or records:
        by_kind.setdefault(record.structures.kind if known else "", []).append(record)
    each = max(1, count // max(1, len(by_kind)))
    chosen = []
    for _, of_kind in sorted(by_kind.items()):
        names = set(evenly_spaced([record.case_id for record in of_kind], each))
        chosen += [record for record in of_kind if record.case_id in names]
    return chosen


def largest_structures(record: Any, count: int) -> dict[str, Tensor]:  # noqa: ANN401
    """The structures of most pixels that a picture shows, and where each is.

    Args:
        record: An `ImageTextRecord`.
        count: How many at most.

    Returns:
        Structure -> (H, W) bool; empty where nothing is known.
    """
    if record.structures is None:
        return {}
    labels = torch.from_numpy(record.structures.labels.read_label().copy())
    masks = {name: torch.isin(labels, torch.tensor(ids).to(labels)) for name, ids in record.structures.parts.items()}
    shown = sorted((name for name in masks if masks[name].any()), key=lambda name: -int(masks[name].sum()))
    return {name: masks[name] for name in shown[:count]}


def _stretched(maps: Tensor) -> Tensor:
    """Each of (P, H, W) to its own range, [0, 1]."""
    low, high = maps.flatten(1).aminmax(dim=1)
    return (maps - low[:, None, None]) / (high - low).clamp_min(torch.finfo(torch.float32).eps)[:, None, None]


def _is_square(mask: Tensor) -> bool:
    return mask.shape[0] == mask.shape[1]  # what preprocessing does to others, pad or crop, is the model's affair


def _at_size(mask: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(mask[None, None].float(), size, mode="nearest-exact")[0, 0].bool()


def draw_map_rows(rows: Sequence[MapRow]) -> Image.Image:
    """Draw pictures below one another, each with its maps to the right and their prompts above them.

    Args:
        rows: One or more.

    Returns:
        An RGB picture.
    """
    height, columns = _CELL_PX + _LINE_PX + 4, 1 + max(len(row.maps) for row in rows)
    sheet = Image.new("RGB", (columns * (_CELL_PX + 4), len(rows) * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for n, row in enumerate(rows):
        top = n * height
        draw.text((2, top), "image", fill=(0, 0, 0), font=font)
        grey = np.repeat(grey_levels(row.image)[..., None], 3, axis=2)
        sheet.paste(cell(grey), (0, top + _LINE_PX))
        for column, (name, values) in enumerate(row.maps.items(), start=1):
            left = column * (_CELL_PX + 4)
            draw.text((left + 2, top), name[:_CHARACTERS], fill=(0, 0, 0), font=font)
            picture = heat(values)
            reference = row.references.get(name)
            sheet.paste(cell(picture if reference is None else outline(picture, reference)), (left, top + _LINE_PX))
    return sheet
