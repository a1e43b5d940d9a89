"""Scores, after a test, whether the model's maps lie where the named structures are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from medzeroseg.callbacks.segmentation import UNKNOWN
from medzeroseg.errors import ConfigurationError
from medzeroseg.metrics.segmentation import SCORES, score_case
from medzeroseg.prompts import embed_prompts
from medzeroseg.provenance import config_hash, git_revision
from medzeroseg.saliency import PatchTextEvidence, SaliencyMethod, resize_maps
from medzeroseg.tables.localisation import SPLITS, build_localisation_structures, build_localisation_table
from medzeroseg.tables.localisation_records import (
    LocalisationRecord,
    StructureLocalisation,
    read_localisation_records,
)
from medzeroseg.tables.writer import write_table
from medzeroseg.zero_shot.calibration import Calibration, PresenceOfPrompts


class Localisation(Callback):
    """Leaves `localisation.json` in the run's folder and a table beside the seeds, and logs its means.

    `val/localisation_auc`, `val/localisation_pointing` and the same for `test`: pixel AUC and pointing game of the map
    of each structure's prompt, mean over the pictures that show it, then over structures. Both splits are looked at
    when a run is tested, with the weights that are tested: choose between models on the one, report the other.

    Label maps score the maps and do nothing else. The data module gives them (`named_pictures`), for square pictures.
    Rank 0 alone works: it is a minute's work at most.

    Args:
        experiment: Name of the experiment.
        label: The row's name in the table.
        dataset: What is looked at.
        seed: The run's seed.
        per_kind: The most pictures of each kind and split, the first ones.
        saliency: Makes the maps; None: `PatchTextEvidence`.
        calibration: Compares the prompts of a kind of picture; None: `PresenceOfPrompts`.

    Raises:
        ValueError: `per_kind` is below 1.
    """

    def __init__(
        self,
        experiment: str,
        label: str,
        dataset: str,
        seed: int = 0,
        per_kind: int = 40,
        saliency: SaliencyMethod | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        if per_kind < 1:
            raise ValueError(f"per_kind must be at least 1, got {per_kind}")
        self.experiment, self.label, self.dataset, self.seed = experiment, label, dataset, seed
        self.per_kind = per_kind
        self.saliency = saliency or PatchTextEvidence()
        self.calibration = calibration or PresenceOfPrompts()
        self.found: list[StructureLocalisation] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what could not be scored when the training is over.

        Raises:
            ConfigurationError: The data module knows no structures, or the model has not what the maps are made of.
        """
        if not hasattr(cast(Any, trainer).datamodule, "named_pictures"):
            raise ConfigurationError("Localisation needs a data module derived from data_modules.ImageTextDataModule")
        try:
            self.saliency.check_model(cast(Any, pl_module).model)
        except ValueError as error:
            raise ConfigurationError(f"Localisation: {error}") from error

    @rank_zero_only
    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the pictures and log."""
        data = cast(Any, trainer).datamodule
        self.found = []
        for split in SPLITS:
            by_kind: dict[str, list[Any]] = {}
            for record in data.named_pictures(split):
                by_kind.setdefault(record.structures.kind, []).append(record)
            for kind, records in sorted(by_kind.items()):
                scores = self._look(cast(Any, pl_module), kind, records[: self.per_kind])
                self.found += [summarise(split, kind, name, rows) for name, rows in scores.items() if rows]
            of_split = [one for one in self.found if one.split == split]
            for name in ("auc", "pointing"):
                if of_split:
                    mean = fmean(getattr(one, name) for one in of_split)
                    pl_module.log(f"{split}/localisation_{name}", mean, rank_zero_only=True)

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the record, then the tables of all seeds of the experiment."""
        folder = Path(trainer.default_root_dir)
        record = LocalisationRecord(
            experiment=self.experiment,
            label=self.label,
            dataset=self.dataset,
            seed=self.seed,
            method=f"{self.saliency.title}, {type(self.calibration).__name__}",
            per_kind=self.per_kind,
            git_revision=git_revision(),
            config_hash=config_hash(getattr(pl_module, "config", {})),
            structures=self.found,
        )
        record.write(folder)
        records = read_localisation_records(folder.parent)
        for build in (build_localisation_table, build_localisation_structures):
            write_table(build(records), folder.parent / "tables")

    def _look(self, task: Any, kind: str, records: Sequence[Any]) -> dict[str, list[Tensor]]:  # noqa: ANN401
        """Structure -> (3,) AUC, pointing and area of each of the pictures that show it."""
        names = list(dict.fromkeys(name for record in records for name in record.structures.parts))
        texts = embed_prompts(task.model, [task.library.prompt(name, kind) for name in names])
        transform = task.model.image_transform(train=False)
        found: dict[str, list[Tensor]] = {name: [] for name in names}
        for record in records:  # one by one: a picture takes milliseconds, and its size is its own
            image = transform(record.source.read())[None].to(texts.device)
            maps = self.calibration(self.saliency(task.model, image, texts, keys=[record.case_id]).maps, len(names))
            labels = torch.from_numpy(record.structures.labels.read_label().copy())
            if labels.shape[0] != labels.shape[1]:
                size = f"{labels.shape[1]} x {labels.shape[0]}"
                raise ConfigurationError(f"Localisation scores square pictures; {record.case_id} has {size} pixels")
            of_picture = score_maps(resize_maps(maps, (len(labels), len(labels)))[0].cpu(), labels, names, record)
            for name, row in of_picture.items():
                found[name].append(row)
        return found


def score_maps(maps: Tensor, labels: Tensor, names: Sequence[str], record: Any) -> dict[str, Tensor]:  # noqa: ANN401
    """Score the maps of one picture.

    Args:
        maps: (P, H, W), one for each name.
        labels: (H, W) label ids, `UNKNOWN` where nobody has outlined anything.
        names: P structures.
        record: Its `structures.parts` say which label ids each is; those missing there are unknown.

    Returns:
        Each structure that the picture shows -> (3,): AUC, 1 or 0 of pointing, share of the area.
    """
    parts: Mapping[str, tuple[int, ...]] = record.structures.parts
    reference = torch.stack([torch.isin(labels, torch.tensor(parts.get(name, ())).to(labels)) for name in names])
    valid = labels != UNKNOWN
    # score_case measures masks as well; nothing is segmented here and the reference stands in for them
    scores = score_case(reference[:, None], maps[:, None], reference[:, None], valid[None], surfaces=False)
    auc, pointing = scores[:, SCORES.index("auc")], scores[:, SCORES.index("pointing")]
    area = (reference & valid).flatten(1).sum(1) / valid.sum()
    rows = torch.stack([auc, pointing, area.double()], dim=1)
    return {name: row for name, row in zip(names, rows, strict=True) if not row.isnan().any()}


def summarise(split: str, kind: str, structure: str, rows: Sequence[Tensor]) -> StructureLocalisation:
    """The means over pictures.

    Args:
        split: `val` or `test`.
        kind: What the pictures are.
        structure: Its name.
        rows: (3,) each, as `score_maps` gives them; at least one.
    """
    auc, pointing, area = torch.stack(list(rows)).mean(dim=0).tolist()
    return StructureLocalisation(split, kind, structure, len(rows), auc, pointing, area)
