"""A zero-shot method as the teacher of a segmentation network."""

import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medzeroseg.checkpoints import load_model_weights, read_checkpoint
from medzeroseg.files import write_atomically
from medzeroseg.models import ImageTextModel
from medzeroseg.prompts import DEFAULT_PROMPTS, Prompt, PromptLibrary, describe_cuts, embed_prompts
from medzeroseg.provenance import git_revision
from medzeroseg.weak_supervision.identity import describe, file_digest, settings_digest, weights_digest
from medzeroseg.weak_supervision.label_maps import label_map
from medzeroseg.zero_shot import ZeroShotMethod
from medzeroseg.zero_shot.assembly import CaseAssembler, SliceResult

PROVENANCE_NAME = "provenance.json"
VERSION = 3
"""Raise it when the same settings give other masks."""

log = logging.getLogger(__name__)


class ZeroShotTeacher:
    """Segments training images from the names of their structures, and keeps the masks on disk.

    The folder's name is a digest of everything that the masks depend on (weights, method, prompts, label map): another
    checkpoint writes elsewhere, and the same teacher finds what it has written. Each case is one file, written whole
    and named after the content of its image files; what is there is not made again, so that an interrupted labelling
    goes on. A case is labelled on its own, in batches that hold nothing else: its mask does not depend on what was
    done before. `provenance.json` beside the masks says what made them.

    No reference mask is read.

    Args:
        model: The image-text model.
        method: Saliency, post-processing and segmenter.
        checkpoint: Checkpoint of a contrastive run whose weights the model takes; None: as it was built (a released
            model without fine-tuning, as in MIS-Net).
        prompts: File of templates and synonyms.
        compare_with: Further structures whose prompts only serve the calibration; None: the modality's neighbours
            as the prompts' file has them.
        folder: Where folders of masks are kept.
        uncertain: Voxels whose highest confidence lies strictly between these two teach nothing; None: all teach.
        minimum_score: Cases whose mean confidence in what was found is lower teach nothing.
        slices_at_a_time: Slices that pass the model together; of one case.

    Raises:
        ValueError: A number is out of range, or the method does not fit the model.
        CheckpointError: The checkpoint is missing, damaged or of another architecture.
    """

    def __init__(
        self,
        model: ImageTextModel,
        method: ZeroShotMethod,
        checkpoint: str | None = None,
        prompts: str = str(DEFAULT_PROMPTS),
        compare_with: Sequence[str] | None = None,
        folder: str = "data/pseudo_masks",
        uncertain: tuple[float, float] | None = None,
        minimum_score: float = 0.0,
        slices_at_a_time: int = 16,
    ) -> None:
        if slices_at_a_time < 1:
            raise ValueError(f"slices_at_a_time must be at least 1, got {slices_at_a_time}")
        if uncertain is not None and not 0 <= uncertain[0] < uncertain[1] <= 1:
            raise ValueError(f"uncertain must be two rising numbers in [0, 1], got {uncertain}")
        if not 0 <= minimum_score <= 1:
            raise ValueError(f"minimum_score must be in [0, 1], got {minimum_score}")
        method.check_model(model)
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        if self.checkpoint is not None:
            load_model_weights(model, read_checkpoint(self.checkpoint))
        self.model, self.method = model.eval(), method.eval()
        self.library = PromptLibrary.load(prompts)
        self.compare_with = compare_with
        self.root = Path(folder)
        self.uncertain, self.minimum_score = uncertain, minimum_score
        self.slices_at_a_time = slices_at_a_time
        self._weights = weights_digest(self.model, self.method)

    def provenance(self, data: Any) -> dict[str, Any]:  # noqa: ANN401 - a data_modules.SegmentationDataModule
        """Everything that the masks depend on but the images, as plain values."""
        return {
            "version": VERSION,
            "model": {"weights_sha256": self._weights, "architecture": self.model.signature},
            "method": describe(self.method),
            "prompts": {prompt.structure: list(prompt.texts) for prompt in self._prompts(data)},
            "reveals_ground_truth": self.library.reveals_ground_truth,
            "structures": {name: list(ids) for name, ids in data.label_parts.items()},
            "modality": data.modality,
            "projection": self._projection(data),
            "window": describe(data.window),
            "image_size_px": data.image_size_px,
            "uncertain": None if self.uncertain is None else list(self.uncertain),
            "minimum_score": self.minimum_score,
            "slices_at_a_time": self.slices_at_a_time,
        }

    def folder(self, data: Any) -> Path:  # noqa: ANN401
        """The folder of this teacher's masks of a dataset; it need not exist yet."""
        return self.root / f"{data.title.lower()}-{settings_digest(self.provenance(data))[:16]}"

    def label(self, data: Any, device: torch.device) -> Path:  # noqa: ANN401
        """Label the cases of the training and the validation split that have no mask yet.

        Args:
            data: A `data_modules.SegmentationDataModule`; its `prepare_data` has run.
            device: Where the model runs; it returns to the CPU afterwards.

        Returns:
            The folder.

        Raises:
            OutputError: It cannot be written to.
            InputError: An image cannot be read.
        """
        folder = self.folder(data)
        origin = {
            "checkpoint": None
            if self.checkpoint is None
            else {"file": self.checkpoint.name, "sha256": file_digest(self.checkpoint)},
            "git_revision": git_revision(),
        }
        if not (folder / PROVENANCE_NAME).exists():
            text = json.dumps({**self.provenance(data), **origin}, indent=2)
            write_atomically(folder / PROVENANCE_NAME, text + "\n")
        self.model.to(device)
        self.method.to(device)
        prompts = self._prompts(data)
        for note in describe_cuts(self.model, prompts):
            log.warning("prompts: %s", note)
        texts = embed_prompts(self.model, prompts)
        for part in ("train", "val"):
            missing = {case: file for case, file in data.pseudo_mask_files(part, folder).items() if not file.exists()}
            if missing:
                log.info("writing pseudo-masks of %d %s case(s) to %s", len(missing), part, folder)
                self._label(data, part, missing, texts)
        self.model.cpu()
        self.method.cpu()
        return folder

    def _label(self, data: Any, part: str, files: dict[str, Path], texts: Tensor) -> None:  # noqa: ANN401
        assembler = CaseAssembler()
        transform = self.model.image_transform(train=False)
        for batch in data.images_of_cases(part, list(files), transform, self.slices_at_a_time):
            keys = [f"{case}/{n}" for case, n in zip(batch["case_id"], batch["slice_index"].tolist(), strict=True)]
            images = batch["image"].to(texts.device)
            with torch.no_grad():
                maps = self.method.saliency(self.model, images, texts, keys=keys).maps
                features = self.model.dense_features(images) if self.method.guided else None
            results = [
                SliceResult({"": maps[n]}, grey.to(maps.device), None, None if features is None else features[n])
                for n, grey in enumerate(batch["native_image"])
            ]
            for case in assembler.add(batch, results):
                found = self.method(
                    case.maps[""], case.images, len(data.label_parts), case.features, self._projection(data)
                )
                pseudo = label_map(
                    found.masks,
                    found.confidence,
                    data.label_parts,
                    uncertain=self.uncertain,
                    minimum_score=self.minimum_score,
                )
                stream = io.BytesIO()
                np.save(stream, pseudo.labels.cpu().numpy(), allow_pickle=False)
                write_atomically(files[case.case_id], stream.getvalue())
        assembler.require_nothing_left()

    def _projection(self, data: Any) -> bool:  # noqa: ANN401
        return data.modality in self.library.projections

    def _prompts(self, data: Any) -> list[Prompt]:  # noqa: ANN401
        others = self.library.compared(list(data.label_parts), data.modality, self.compare_with)
        return [self.library.prompt(name, data.modality) for name in (*data.label_parts, *others)]
