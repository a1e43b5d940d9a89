"""What a task needs to know about the cases of its data module and of its batches."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from medzeroseg.errors import ConfigurationError
from medzeroseg.models.slice_segmenter import SliceSegmenter
from medzeroseg.saliency import resize_maps
from medzeroseg.zero_shot.method import CaseSegmentation


def labelled_data(trainer: Any, task: object) -> Any:  # noqa: ANN401 - a data_modules.SegmentationDataModule
    """The trainer's data module.

    Raises:
        ConfigurationError: It holds no labelled cases.
    """
    data = trainer.datamodule
    if not hasattr(data, "label_parts"):
        raise ConfigurationError(
            f"data: {type(data).__name__} holds no labelled cases, which {type(task).__name__} needs. "
            "Use a data module derived from data_modules.SegmentationDataModule."
        )
    return data


def slice_names(batch: Mapping[str, Any]) -> list[str]:
    """`<case>/<slice>` of each row: its name whatever batch it comes in."""
    return [f"{case}/{n}" for case, n in zip(batch["case_id"], batch["slice_index"].tolist(), strict=True)]


def case_segmentation(
    network: SliceSegmenter, probabilities: Tensor, size: tuple[int, int], parts: Mapping[str, Sequence[int]]
) -> CaseSegmentation:
    """Structures of a case from its class probabilities.

    Args:
        network: Knows the classes.
        probabilities: (D, K, h, w).
        size: (H, W), native.
        parts: Structure -> the label ids whose union it is.

    Returns:
        Masks at native size, and the structures' probabilities on the network's grid.
    """
    labels = network.labels_at(probabilities, size)
    masks = torch.stack([torch.isin(labels, labels.new_tensor(list(ids))) for ids in parts.values()])
    maps = torch.stack([network.of_union(probabilities, ids) for ids in parts.values()], dim=1)
    return CaseSegmentation(masks, maps, resize_maps(maps, size).transpose(0, 1).half())
