"""Segmentation networks trained on masks: the dataset's own (full supervision) or a teacher's (weak supervision)."""

from typing import Any, cast

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from medzeroseg.callbacks.segmentation import SegmentationEvaluator
from medzeroseg.errors import ConfigurationError
from medzeroseg.losses.deep_supervision import deep_supervision
from medzeroseg.losses.dice_cross_entropy import DiceCrossEntropyLoss
from medzeroseg.metrics.case_overlap import CaseDice
from medzeroseg.models.segmentation_networks import GreyTransform, NetworkBuilder
from medzeroseg.models.slice_segmenter import SliceSegmenter
from medzeroseg.schedules import LRSchedule
from medzeroseg.tables.segmentation_records import MethodResult
from medzeroseg.tasks import cases
from medzeroseg.tasks.base import BaseTask
from medzeroseg.tasks.performance import Part, Performance
from medzeroseg.weak_supervision import ZeroShotTeacher
from medzeroseg.zero_shot.assembly import SliceResult


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
        performance: How the network is computed; None: as torch does it by default.
        window_px: Side of the square windows that are trained on and predicted; None: whole images, all of one size.
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
        performance: Performance | None = None,
        window_px: int | None = None,
        test_time_flips: bool = False,
        key: str = "network",
    ) -> None:
        super().__init__(optimizer, lr_schedule, performance)
        if window_px is not None and (window_px < 1 or window_px % network.multiple_px):
            raise ValueError(f"window_px must be a multiple of {network.multiple_px}, got {window_px}")
        self.builder, self.loss, self.teacher = network, loss or DiceCrossEntropyLoss(), teacher
        self.evaluator = evaluator or SegmentationEvaluator()
        self.window_px, self.test_time_flips, self.key = window_px, test_time_flips, key
        self.network = cast(SliceSegmenter, nn.Module())  # waits for the dataset's labels
        self.structures: dict[str, tuple[int, ...]] = {}

    def configure_callbacks(self) -> list[SegmentationEvaluator]:
        """Let Lightning call the evaluator that the task holds."""
        return [] if self.evaluator in cast(Any, self.trainer).callbacks else [self.evaluator]

    def parts_to_compile(self) -> list[Part]:
        """The network as a whole."""
        return [Part(self.network.network)]

    def prepare_data(self) -> None:
        """Let the teacher label the images; Lightning calls this in one process a node while the others wait."""
        if self.teacher is not None and self.trainer.state.fn == "fit":
            self.teacher.label(cases.labelled_data(self.trainer, self), self.trainer.strategy.root_device)

    def setup(self, stage: str) -> None:
        """Hand the network's preprocessing to the data module, and make the network for its labels.

        Raises:
            ConfigurationError: The data module holds no labelled cases, or its images do not fit the network.
        """
        data, multiple = cases.labelled_data(self.trainer, self), self.builder.multiple_px
        whole = self.window_px is None or self.window_px > data.image_size_px  # what the network is given
        if whole and data.image_size_px % multiple:
            size, window = data.image_size_px, self.window_px
            smaller = "" if window is None else f", or model.init_args.window_px ({window}) below {size}"
            raise ConfigurationError(f"data: image_size_px must be a multiple of {multiple}, not {size}{smaller}")
        data.attach_model(train_transform=GreyTransform(), eval_transform=GreyTransform())
        if stage == "fit" and self.teacher is not None:
            data.use_pseudo_masks(self.teacher.folder(data))
        self.structures = data.label_parts
        if not isinstance(self.network, SliceSegmenter):
            self.network = SliceSegmenter(self.builder, data.label_names, self.window_px, self.test_time_flips)

    def forward(self, images: Tensor) -> Tensor:
        """Class probabilities: (B, 1, H, W) -> (B, K, H, W) float32."""
        return self.network.probabilities(images)

    def training_step(self, batch: cases.Batch, batch_idx: int) -> Tensor:
        """One step."""
        draw = f"{cases.labelled_data(self.trainer, self).seed}/{self.current_epoch}"
        images, classes = cases.training_pixels(batch, self.network, draw)
        loss = deep_supervision(self.loss, self.network(images), classes)
        self.require_finite(loss, batch, batch_idx)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(images))
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget the cases of the epoch before."""
        names = [case.case_id for case in cases.labelled_data(self.trainer, self).cases("val")]
        self._dice = CaseDice(names, self.structures).to(self.device)

    def validation_step(self, batch: cases.Batch, batch_idx: int) -> None:
        """Count the overlaps of a batch at native size."""
        probabilities = self(batch["image"])
        self.require_finite(probabilities.sum(), batch, batch_idx)  # broken weights must not become the last checkpoint
        for case_id, labels, mask in cases.native_labels(batch, self.network, probabilities):
            self._dice.update(case_id, labels, mask)

    def on_validation_epoch_end(self) -> None:
        """Log the DSC, which every rank computes from the counts of all."""
        self.log_dict({f"val/{name}": value for name, value in self._dice.percentages().items()})

    def on_test_epoch_start(self) -> None:
        """Begin the test."""
        self._test = cases.CaseTest(self, self.evaluator, [self.key])

    def test_step(self, batch: cases.Batch, batch_idx: int) -> None:
        """Predict a batch, and score the cases that it completes."""
        with self.evaluator.timed(self.key):
            probabilities = self(batch["image"])
        results = zip(probabilities, batch["native_image"], batch["native_mask"], strict=True)
        for case in self._test.completed(batch, [SliceResult({self.key: p}, *native) for p, *native in results]):
            with self.evaluator.timed(self.key):
                found = cases.case_segmentation(self.network, case, self.key, self.structures)
            self._test.finish(self.key, case, found)

    def on_test_epoch_end(self) -> None:
        """Every case must have been complete."""
        self._test.require_complete()

    def method_results(self) -> list[MethodResult]:
        """What the record says about the method, after a test."""
        taught = "" if self.teacher is None else f" on masks of {self.teacher.method.title}"
        reveals = self.teacher is not None and self.teacher.library.reveals_ground_truth
        minutes, labels = self.evaluator.seconds[self.key] / 60, self.teacher is None or reveals
        chosen = self.teacher is not None and self.teacher.method.chosen_on_validation
        title = self.builder.title + taught
        return [MethodResult(self.key, title, "-", minutes, labels, reveals, chosen_on_validation=chosen)]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of another architecture or for other labels, with a `CheckpointError`."""
        super().on_load_checkpoint(checkpoint)
        cases.require_same_labels(checkpoint, self.network)
