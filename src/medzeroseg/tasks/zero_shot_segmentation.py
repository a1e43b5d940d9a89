"""Zero-shot segmentation of a labelled split, by one or several methods: the rows of Table 2."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from medzeroseg.callbacks.segmentation import SegmentationEvaluator
from medzeroseg.checkpoints import load_model_weights, read_checkpoint
from medzeroseg.errors import ConfigurationError
from medzeroseg.models import ImageTextModel
from medzeroseg.prompts import DEFAULT_PROMPTS, PromptLibrary, embed_prompts
from medzeroseg.zero_shot import ZeroShotMethod
from medzeroseg.zero_shot.assembly import CaseAssembler, SliceResult

Batch = dict[str, Any]


class ZeroShotSegmentationTask(LightningModule):
    """Segments each case of the test split from the names of its structures; nothing is trained.

    The images of a batch pass the saliency methods together; a case is segmented and scored when its last slice has
    come. Each method's time is its own saliency, post-processing and segmenter.

    Args:
        model: The image-text model.
        methods: Key of the row, e.g. `gscorecam`, to the method.
        checkpoint: Checkpoint of a contrastive run whose weights the model takes; None: as it was built.
        prompts: File of templates and synonyms.
        compare_with: Further structures whose prompts only serve the calibration; they are not scored.
        evaluator: Scores the cases.

    Raises:
        ConfigurationError: There is no method, or the checkpoint does not fit the model.
    """

    def __init__(
        self,
        model: ImageTextModel,
        methods: dict[str, ZeroShotMethod],
        checkpoint: str | None = None,
        prompts: str = str(DEFAULT_PROMPTS),
        compare_with: Sequence[str] = (),
        evaluator: SegmentationEvaluator | None = None,
    ) -> None:
        super().__init__()
        if not methods:
            raise ConfigurationError("methods: name at least one, e.g. gradcam")
        self.model = model
        if checkpoint is not None:
            load_model_weights(model, read_checkpoint(Path(checkpoint)))
        self.methods = torch.nn.ModuleDict(methods)
        self.library = PromptLibrary.load(prompts)
        self.compare_with = tuple(compare_with)
        self.evaluator = evaluator or SegmentationEvaluator()
        #: see `BaseTask.config`
        self.config: dict[str, Any] = {}
        self._assembler = CaseAssembler()
        self._texts = torch.empty(0)

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
        data = cast(Any, self.trainer).datamodule
        if not hasattr(data, "label_parts"):
            raise ConfigurationError(
                f"data: {type(data).__name__} holds no labelled cases, which {type(self).__name__} needs. "
                "Use a data module derived from data_modules.SegmentationDataModule."
            )
        transform = self.model.image_transform(train=False)
        data.attach_model(train_transform=transform, eval_transform=transform)

    def on_test_epoch_start(self) -> None:
        """Embed the prompts, once."""
        data = cast(Any, self.trainer).datamodule
        self.structures: dict[str, tuple[int, ...]] = data.label_parts
        others = [name for name in self.compare_with if name not in self.structures]
        prompts = [self.library.prompt(name, data.modality) for name in (*self.structures, *others)]
        self.model.eval()
        self._texts = embed_prompts(self.model, prompts)
        self._assembler = CaseAssembler()
        self.evaluator.begin(list(self.structures), list(self.methods), [case.case_id for case in data.cases("test")])

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Make the maps of a batch, and segment the cases that it completes."""
        keys = [f"{case}/{n}" for case, n in zip(batch["case_id"], batch["slice_index"].tolist(), strict=True)]
        maps: dict[str, Tensor] = {}
        for name, method in self._methods():
            with self.evaluator.timed(name):
                maps[name] = method.saliency(self.model, batch["image"], self._texts, keys=keys).maps
        guided = any(method.guided for _, method in self._methods())
        features = self.model.dense_features(batch["image"]) if guided else None
        results = [
            SliceResult(
                {name: found[n] for name, found in maps.items()},
                batch["native_image"][n],
                batch["native_mask"][n],
                None if features is None else features[n],
            )
            for n in range(len(keys))
        ]
        for case in self._assembler.add(batch, results):
            assert case.reference is not None, case.case_id  # the data module refuses cases without
            for name, method in self._methods():
                with self.evaluator.timed(name):
                    found = method(case.maps[name], case.images, len(self.structures), case.features)
                self.evaluator.score(name, case, found, self.structures)

    def on_test_epoch_end(self) -> None:
        """Every case must have been complete."""
        self._assembler.require_nothing_left()

    def _methods(self) -> list[tuple[str, ZeroShotMethod]]:
        return cast(list[tuple[str, ZeroShotMethod]], list(self.methods.items()))
