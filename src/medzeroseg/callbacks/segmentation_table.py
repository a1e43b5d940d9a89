"""Writes the record of a segmentation run, and Table 2 over the runs of its experiment."""

from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from medzeroseg.callbacks.segmentation import SegmentationEvaluator
from medzeroseg.provenance import config_hash, describe_environment, git_revision
from medzeroseg.tables.segmentation_records import MethodResult, SegmentationRecord, read_segmentation_records
from medzeroseg.tables.table2 import build_structure_table, build_table2
from medzeroseg.tables.writer import write_table


class SegmentationTable(Callback):
    """After a test, leaves `segmentation.json` and `segmentation_cases.csv` in the run's folder, and Table 2 beside it.

    Rank 0 alone writes; the minutes are those of its own cases.

    Args:
        experiment: Name of the experiment.
        label: The model's name in the table.
        dataset: What is segmented.
        seed: The run's seed.
        published_row: `<dataset>/<model>` of the published figures to show beside the rows.
    """

    def __init__(
        self, experiment: str, label: str, dataset: str, seed: int = 0, published_row: str | None = None
    ) -> None:
        self.experiment = experiment
        self.label = label
        self.dataset = dataset
        self.seed = seed
        self.published_row = published_row

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the record, then the tables."""
        task = cast(Any, pl_module)
        evaluator: SegmentationEvaluator = task.evaluator
        methods = [
            MethodResult(
                method=name,
                title=method.title,
                layer=method.saliency.layer_used(task.model),
                minutes=evaluator.seconds[name] / 60,
                reveals_ground_truth=task.library.reveals_ground_truth,
                labels_used=task.library.reveals_ground_truth,
                baseline=method.baseline,
            )
            for name, method in task.methods.items()
        ]
        record = SegmentationRecord(
            experiment=self.experiment,
            label=self.label,
            dataset=self.dataset,
            published_row=self.published_row,
            seed=self.seed,
            methods=methods,
            git_revision=git_revision(),
            config_hash=config_hash(task.config),
            environment=describe_environment(trainer),
            scores=[score for name in task.methods for score in evaluator.scores(name)],
        )
        folder = Path(trainer.default_root_dir)
        record.write(folder)
        records = read_segmentation_records(folder.parent)
        for table in (build_table2(records), build_structure_table(records)):
            write_table(table, folder.parent / "tables")
