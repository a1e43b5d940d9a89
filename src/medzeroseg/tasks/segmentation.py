"""Segmentation networks trained on masks: the dataset's own (full supervision) or a teacher's (weak supervision)."""

from typing import Any, cast

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from medzeroseg.callbacks.segmentation import SegmentationEvaluator
from medzeroseg.errors import CheckpointError, ConfigurationError
from medzeroseg.losses.dice_cross_entropy import DiceCrossEntropyLoss
from medzeroseg.metrics.case_overlap import CaseDice
from medzeroseg.models.segmentation_networks import GreyTransform, NetworkBuilder
from medzeroseg.models.slice_segmenter import SliceSegmenter, random_windows
from medzeroseg.schedules import LRSchedule
from medzeroseg.tables.segmentation_records import MethodResult
from medzeroseg.tasks.base import BaseTask
from medzeroseg.tasks.cases import case_segmentation, labelled_data, slice_names
from medzeroseg.weak_supervision import ZeroShotTeacher
from medzeroseg.zero_shot.assembly import CaseAssembler, SliceResult

Batch = dict[str, Any]


class SegmentationTask(BaseTask):
    """Trains a 2-D network on slices, and scores whole cases at their native size.

    Label ids are trained on; structures, unions of ids (`label_parts`), are scored. `val/dsc`, in percent, chooses the
    best checkpoint; with a teacher it is measured against the teacher's masks: no reference is used before the test.

    Args:
        network: Makes the network for the dataset's classes.
        loss: Of logits (B, K, H, W) and classes (B, H, W); None: Dice + cross-entropy.
        teacher: Labels the training and validation images before the training; None: the dataset's masks are used.
        evaluator: Scores the test cases.
        optimizer: Makes the optimizer from parameter groups.
        lr_schedule: Makes the learning-rate schedule; None: constant.
        window_px: Side of the square windows that are trained on and predicted; None: whole images, all brought to one
            size by the data module.
        test_time_flips: Average with the predictions of the mirrored images. What tells left from right loses by it.
        key: Key of the method in records and tables.

    Raises:
        ValueError: `window_px` does not fit the network.
    """

    def __init__(
        self,
        network: NetworkBuilder,
        loss: nn.Module | None = None,
        teacher: ZeroShotTeacher | None = None,
        evaluator: SegmentationEvaluator | None = None,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(params, lr=1e-3),
        lr_schedule: LRSchedule | None = None,
        window_px: int | None = None,
        test_time_flips: bool = False,
        key: str = "network",
    ) -> None:
        super().__init__(optimizer, lr_schedule)
        if window_px is not None and (window_px < 1 or window_px % network.multiple_px):
            raise ValueError(f"window_px must be a multiple of {network.multiple_px}, got {window_px}")
        self.builder, self.loss, self.teacher = network, loss or DiceCrossEntropyLoss(), teacher
        self.evaluator = evaluator or SegmentationEvaluator()
        self.window_px, self.test_time_flips, self.key = window_px, test_time_flips, key
        self.network = nn.Module()  # waits for the dataset's labels
        self.structures: dict[str, tuple[int, ...]] = {}
        self._assembler = CaseAssembler()

    def configure_callbacks(self) -> list[SegmentationEvaluator]:
        """Let Lightning call the evaluator that the task holds."""
        return [] if self.evaluator in cast(Any, self.trainer).callbacks else [self.evaluator]

    def prepare_data(self) -> None:
        """Let the teacher label the images; Lightning calls this in one process a node while the others wait."""
        if self.teacher is not None and self.trainer.state.fn == "fit":
            self.teacher.label(labelled_data(self.trainer, self), self.trainer.strategy.root_device)

    def setup(self, stage: str) -> None:
        """Hand the network's preprocessing to the data module, and make the network for its labels.

        Raises:
            ConfigurationError: The data module holds no labelled cases, or its images do not fit the network.
        """
        data, multiple = labelled_data(self.trainer, self), self.builder.multiple_px
        if self.window_px is None and data.image_size_px % multiple:
            raise ConfigurationError(f"data: image_size_px must be a multiple of {multiple}, not {data.image_size_px}")
        data.attach_model(train_transform=GreyTransform(), eval_transform=GreyTransform())
        if stage == "fit" and self.teacher is not None:
            data.use_pseudo_masks(self.teacher.folder(data))
        self.structures = data.label_parts
        if not isinstance(self.network, SliceSegmenter):
            self.network = SliceSegmenter(self.builder, data.label_names, self.window_px, self.test_time_flips)

    def forward(self, images: Tensor) -> Tensor:
        """Class probabilities: (B, 1, H, W) -> (B, K, H, W) float32."""
        return self._network.probabilities(images)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step."""
        images, classes = batch["image"], self._network.to_classes(batch["mask"])
        if self.window_px is not None:
            keys = [f"{torch.initial_seed()}/{self.current_epoch}/{name}" for name in slice_names(batch)]
            images, classes = random_windows(images, classes, self.window_px, keys)
        outputs = self._network(images)
        heads = outputs.unbind(dim=1) if outputs.ndim == 5 else [outputs]
        weights = [0.5**n for n in range(len(heads))]  # nnU-Net's: each coarser output counts half
        losses = [weight * self.loss(head, classes) for weight, head in zip(weights, heads, strict=True)]
        loss = torch.stack(losses).sum() / sum(weights)
        self.require_finite(loss, batch, batch_idx)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(images))
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget the cases of the epoch before."""
        cases = labelled_data(self.trainer, self).cases("val")
        self._dice = CaseDice([case.case_id for case in cases], self.structures).to(self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count the overlaps of a batch at native size."""
        probabilities = self(batch["image"])
        self.require_finite(probabilities.sum(), batch, batch_idx)  # broken weights must not become the last checkpoint
        for n, (case_id, mask) in enumerate(zip(batch["case_id"], batch["native_mask"], strict=True)):
            labels = self._network.labels_at(probabilities[n : n + 1], (mask.shape[0], mask.shape[1]))
            self._dice.update(case_id, labels[0], mask)

    def on_validation_epoch_end(self) -> None:
        """Log the DSC, which every rank computes from the counts of all."""
        means = self._dice.percentages()
        self.log_dict({f"val/{name}": value for name, value in means.items()})

    def on_test_epoch_start(self) -> None:
        """Tell the evaluator what comes."""
        self._assembler = CaseAssembler()
        cases = [case.case_id for case in labelled_data(self.trainer, self).cases("test")]
        self.evaluator.begin(list(self.structures), [self.key], cases)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Predict a batch, and score the cases that it completes."""
        with self.evaluator.timed(self.key):
            probabilities = self(batch["image"])
        native = zip(probabilities, batch["native_image"], batch["native_mask"], strict=True)
        results = [SliceResult({self.key: found}, image, mask) for found, image, mask in native]
        for case in self._assembler.add(batch, results):
            size = (case.images.shape[1], case.images.shape[2])
            with self.evaluator.timed(self.key):
                found = case_segmentation(self._network, case.maps[self.key], size, self.structures)
            self.evaluator.score(self.key, case, found, self.structures)

    def on_test_epoch_end(self) -> None:
        """Every case must have been complete."""
        self._assembler.require_nothing_left()

    def method_results(self) -> list[MethodResult]:
        """What the record says about the method, after a test."""
        taught = "" if self.teacher is None else f" on masks of {self.teacher.method.title}"
        reveals = self.teacher is not None and self.teacher.library.reveals_ground_truth
        result = MethodResult(
            method=self.key,
            title=self.builder.title + taught,
            layer="-",
            minutes=self.evaluator.seconds[self.key] / 60,
            reveals_ground_truth=reveals,
            labels_used=self.teacher is None or reveals,
        )
        return [result]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of another architecture or for other labels.

        Raises:
            CheckpointError: Keys, shapes or label ids differ.
        """
        super().on_load_checkpoint(checkpoint)
        theirs, ours = checkpoint["state_dict"]["network.label_ids"].tolist(), self._network.label_ids.tolist()
        if theirs != ours:
            raise CheckpointError(f"The checkpoint is for the label ids {theirs}, the data has {ours}.")

    @property
    def _network(self) -> SliceSegmenter:
        return cast(SliceSegmenter, self.network)
