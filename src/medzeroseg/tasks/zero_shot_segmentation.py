"""Zero-shot segmentation of a labelled split, by one or several methods: the rows of Table 2."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from medzeroseg.callbacks.segmentation import SegmentationEvaluator
from medzeroseg.checkpoints import load_model_weights, read_checkpoint
from medzeroseg.models import ImageTextModel
from medzeroseg.prompts import DEFAULT_PROMPTS, PromptLibrary, describe_cuts, embed_prompts
from medzeroseg.tables.segmentation_records import MethodResult
from medzeroseg.tasks.cases import CaseTest, labelled_data, slice_names
from medzeroseg.zero_shot import MethodTable
from medzeroseg.zero_shot.assembly import SliceResult

Batch = dict[str, Any]

log = logging.getLogger(__name__)


class ZeroShotSegmentationTask(LightningModule):
    """Segments each case of the test split from the names of its structures; nothing is trained.

    The images of a batch pass the saliency methods together; a case is segmented and scored when its last slice has
    come. Rows with the same saliency share its maps. Each row's time is its own saliency, shared or not, DPFEM's
    features where they guide it, its post-processing and its segmenter.

    Args:
        model: The image-text model.
        methods: The rows.
        checkpoint: Checkpoint of a contrastive run whose weights the model takes; None: as it was built.
        prompts: File of templates and synonyms.
        compare_with: Further structures whose prompts only serve the calibration; they are not scored. None: the
            modality's neighbours as the prompts' file has them.
        evaluator: Scores the cases.

    Raises:
        ConfigurationError: A method does not fit the model.
        CheckpointError: The checkpoint is missing, damaged or of another architecture.
    """

    def __init__(
        self,
        model: ImageTextModel,
        methods: MethodTable,
        checkpoint: str | None = None,
        prompts: str = str(DEFAULT_PROMPTS),
        compare_with: Sequence[str] | None = None,
        evaluator: SegmentationEvaluator | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        methods.check_model(model)
        #: what the checkpoint was trained with, as it says itself; a path would tell less, and differ between seeds
        self.trained_with: dict[str, Any] = {}
        if checkpoint is not None:
            content = read_checkpoint(Path(checkpoint))
            load_model_weights(model, content)
            self.trained_with = content.get("config", {})
        self.methods = methods
        self.library = PromptLibrary.load(prompts)
        self.compare_with = compare_with
        self.evaluator = evaluator or SegmentationEvaluator()
        #: see `BaseTask.config`
        self.config: dict[str, Any] = {}
        self.structures: dict[str, tuple[int, ...]] = {}
        self.projection = False
        #: (P + C, D), unit: of the structures, then of the prompts for comparison
        self.text_embeddings = torch.empty(0)
        self._source_of = {key: first for first, keys in methods.shared_saliency().items() for key in keys}

    def configure_callbacks(self) -> list[SegmentationEvaluator]:
        """Let Lightning call the evaluator that the task holds."""
        return [] if self.evaluator in cast(Any, self.trainer).callbacks else [self.evaluator]

    def configure_optimizers(self) -> None:
        """Nothing is trained."""

    def setup(self, stage: str) -> None:
        """Hand the model's preprocessing to the data module.

        Raises:
            ConfigurationError: The data module holds no labelled cases.
        """
        data = labelled_data(self.trainer, self)
        transform = self.model.image_transform(train=False)
        data.attach_model(train_transform=transform, eval_transform=transform)

    def on_test_epoch_start(self) -> None:
        """Embed the prompts, once."""
        data = labelled_data(self.trainer, self)
        self.structures = data.label_parts
        self.projection = data.modality in self.library.projections
        others = self.library.compared(list(self.structures), data.modality, self.compare_with)
        prompts = [self.library.prompt(name, data.modality) for name in (*self.structures, *others)]
        self.model.eval()
        if self.trainer.is_global_zero:
            for note in describe_cuts(self.model, prompts):
                log.warning("prompts: %s", note)
        self.text_embeddings = embed_prompts(self.model, prompts)
        self._test = CaseTest(self, self.evaluator, list(self.methods))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Make the maps of a batch, and segment the cases that it completes."""
        keys = slice_names(batch)
        maps: dict[str, Tensor] = {}
        for first, sharing in self.methods.shared_saliency().items():
            with self.evaluator.timed(*sharing):
                maps[first] = (
                    self.methods[first].saliency(self.model, batch["image"], self.text_embeddings, keys=keys).maps
                )
        self._test.observe_maps(batch, maps)
        features = None
        if self.methods.guided:
            with self.evaluator.timed(*self.methods.guided):
                features = self.model.dense_features(batch["image"])
        results = [
            SliceResult(
                {name: found[n] for name, found in maps.items()},
                batch["native_image"][n],
                batch["native_mask"][n],
                None if features is None else features[n],
            )
            for n in range(len(keys))
        ]
        for case in self._test.completed(batch, results):
            assert case.reference is not None, case.case_id  # the data module refuses cases without
            for name, method in self.methods.items():
                with self.evaluator.timed(name):
                    maps_of_case = case.maps[self._source_of[name]]
                    found = method(maps_of_case, case.images, len(self.structures), case.features, self.projection)
                self._test.finish(name, case, found)

    def on_test_epoch_end(self) -> None:
        """Every case must have been complete."""
        self._test.require_complete()

    def method_results(self) -> list[MethodResult]:
        """What the record says about each row, after a test."""
        reveals = self.library.reveals_ground_truth
        return [
            MethodResult(
                method=name,
                title=method.title,
                layer=method.saliency.layer_used(self.model),
                minutes=self.evaluator.seconds[name] / 60,
                reveals_ground_truth=reveals,
                labels_used=reveals,
                baseline=method.baseline,
                chosen_on_validation=method.chosen_on_validation,
            )
            for name, method in self.methods.items()
        ]
