"""What a task needs to know about the cases of its data module and of its batches, and how it tests on them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from medzeroseg.callbacks.case_observer import case_observers
from medzeroseg.callbacks.segmentation import SegmentationEvaluator
from medzeroseg.errors import CheckpointError, ConfigurationError
from medzeroseg.models.slice_segmenter import SliceSegmenter, random_windows
from medzeroseg.saliency import resize_maps
from medzeroseg.zero_shot.assembly import AssembledCase, CaseAssembler, SliceResult
from medzeroseg.zero_shot.method import CaseSegmentation

Batch = dict[str, Any]


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


def training_pixels(batch: Mapping[str, Any], network: SliceSegmenter, draw: str) -> tuple[Tensor, Tensor]:
    """What a network is trained on: whole images, or windows where the network works in windows.

    Args:
        batch: `image` (B, 1, H, W), `mask` (B, H, W), and the names of the slices.
        network: Knows the classes and its windows' side.
        draw: Names the draw of the windows; with the slice's name it decides where they lie.

    Returns:
        Images (B, 1, h, w) and classes (B, h, w).
    """
    images, classes = batch["image"], network.to_classes(batch["mask"])
    if network.window_px is None:
        return images, classes
    return random_windows(images, classes, network.window_px, [f"{draw}/{name}" for name in slice_names(batch)])


def native_labels(
    batch: Mapping[str, Any], network: SliceSegmenter, probabilities: Tensor
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Compare a batch's slices with their references at native size.

    Args:
        batch: `case_id` and `native_mask`.
        network: Knows the classes.
        probabilities: (B, K, h, w).

    Yields:
        The case, and predicted and reference label ids, each (H, W) uint8.
    """
    for case_id, found, mask in zip(batch["case_id"], probabilities, batch["native_mask"], strict=True):
        yield case_id, network.labels_at(found[None], (mask.shape[0], mask.shape[1]))[0], mask


def case_segmentation(
    network: SliceSegmenter, case: AssembledCase, key: str, parts: Mapping[str, Sequence[int]]
) -> CaseSegmentation:
    """Structures of a case from its class probabilities.

    Args:
        network: Knows the classes.
        case: Its `maps` hold the probabilities (D, K, h, w).
        key: Their key.
        parts: Structure -> the label ids whose union it is.

    Returns:
        Masks at native size, and the structures' probabilities on the network's grid.
    """
    probabilities, size = case.maps[key], (case.images.shape[1], case.images.shape[2])
    labels = network.labels_at(probabilities, size)
    masks = torch.stack([torch.isin(labels, labels.new_tensor(list(ids))) for ids in parts.values()])
    maps = torch.stack([network.of_union(probabilities, ids) for ids in parts.values()], dim=1)
    return CaseSegmentation(masks, maps, resize_maps(maps, size).transpose(0, 1).half())


def require_same_labels(checkpoint: Mapping[str, Any], network: SliceSegmenter) -> None:
    """Compare the label ids of a checkpoint's network with those of the data.

    Raises:
        CheckpointError: They differ.
    """
    theirs, ours = checkpoint["state_dict"]["network.label_ids"].tolist(), network.label_ids.tolist()
    if theirs != ours:
        raise CheckpointError(f"The checkpoint is for the label ids {theirs}, the data has {ours}.")


class CaseTest:
    """One test over whole cases: slices come in batches, each case is scored and shown to the observers when complete.

    Args:
        task: The task that tests: `trainer`, `structures`.
        evaluator: Scores the cases.
        methods: Keys of the methods.

    Raises:
        ConfigurationError: The trainer tests on some of the batches only.
    """

    def __init__(self, task: Any, evaluator: SegmentationEvaluator, methods: Sequence[str]) -> None:  # noqa: ANN401
        _require_all_batches(task.trainer)
        self.task, self.evaluator = task, evaluator
        self.observers = case_observers(task.trainer)
        self._assembler = CaseAssembler()
        cases = [case.case_id for case in labelled_data(task.trainer, task).cases("test")]
        evaluator.begin(list(task.structures), list(methods), cases)
        for observer in self.observers:
            observer.on_cases_start(task)

    def observe_maps(self, batch: Mapping[str, Any], maps: Mapping[str, Tensor]) -> None:
        """Show the observers a batch's maps (`CaseObserver.on_maps`)."""
        for observer in self.observers:
            observer.on_maps(self.task, batch, maps)

    def completed(self, batch: dict[str, Any], results: Sequence[SliceResult]) -> Iterator[AssembledCase]:
        """The cases that a batch completes.

        Args:
            batch: As the data module made it.
            results: One a slice.
        """
        return self._assembler.add(batch, results)

    def finish(self, method: str, case: AssembledCase, found: CaseSegmentation) -> None:
        """Score what a method made of a case, and show it to the observers."""
        self.evaluator.score(method, case, found, self.task.structures)
        for observer in self.observers:
            observer.on_case(self.task, method, case, found)

    def require_complete(self) -> None:
        """Every case of the split must have been complete, on whatever rank; asked after the evaluator has gathered.

        Raises:
            RuntimeError: Slices of a case are missing, or all of them.
        """
        self._assembler.require_nothing_left()
        missing = self.evaluator.unscored()
        if missing:
            raise RuntimeError(
                f"{len(missing)} case(s) of the test split were not scored, among them {missing[0]}: "
                "the data module's test_dataloader must bring every case that its cases('test') lists"
            )


def _require_all_batches(trainer: Any) -> None:  # noqa: ANN401 - a Trainer
    limit = trainer.limit_test_batches
    if isinstance(limit, int) or limit < 1:  # 1 is one batch, 1.0 all of them
        raise ConfigurationError(
            f"trainer.limit_test_batches is {limit} (trainer.fast_dev_run sets it, too): the record of a test on some "
            "batches would pass for one of the whole split. Leave the option out, or test on fewer cases with "
            "data.init_args.max_test_cases."
        )
