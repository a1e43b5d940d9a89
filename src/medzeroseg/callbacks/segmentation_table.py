"""Writes the record of a segmentation run, and Table 2 over the runs of its experiment."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from medzeroseg.callbacks.segmentation import SegmentationEvaluator
from medzeroseg.provenance import config_hash, describe_environment, git_revision
from medzeroseg.tables.segmentation_records import MethodResult, SegmentationRecord, read_segmentation_records
from medzeroseg.tables.table2 import build_structure_table, build_table2
from medzeroseg.tables.table3 import build_table3, build_table3_structures
from medzeroseg.tables.table3_rows import ROWS
from medzeroseg.tables.writer import write_table

SUPERVISION = ("zero-shot", "weak", "full")

ZERO_SHOT_ROWS = {"gscorecam_crf": "saliency_crf", "gscorecam_dpfem_crf": "saliency_dpfem_crf"}
"""Methods of the publication's zero-shot rows, as experiments/parts names them, and their rows in Table 3."""


class SegmentationTable(Callback):
    """After a test, leaves `segmentation.json` and `segmentation_cases.csv` in the run's folder; Tables 2, 3 beside it.

    Rank 0 alone writes; the minutes are those of its own cases.

    Args:
        experiment: Name of the experiment.
        label: The model's name in the table.
        dataset: What is segmented.
        seed: The run's seed.
        published_row: `<dataset>/<model>` of the published figures to show beside the rows.
        supervision: `zero-shot`, `weak` or `full`.
        table3_rows: Key of a method to the key of its row in Table 3 (`medzeroseg.tables.table3_rows.ROWS`), e.g.
            `{patch_text_crf: saliency_crf}`; the other methods are not in it. None: those of `ZERO_SHOT_ROWS`, and
            methods whose own key is that of a row.

    Raises:
        ValueError: `supervision` or a row is unknown.
    """

    def __init__(
        self,
        experiment: str,
        label: str,
        dataset: str,
        seed: int = 0,
        published_row: str | None = None,
        supervision: str = "zero-shot",
        table3_rows: dict[str, str] | None = None,
    ) -> None:
        if supervision not in SUPERVISION:
            raise ValueError(f"supervision must be one of {', '.join(SUPERVISION)}, got '{supervision}'")
        for row in (table3_rows or {}).values():
            if row not in ROWS:
                raise ValueError(f"table3_rows: '{row}' is no row of Table 3; there are {', '.join(ROWS)}")
        self.experiment = experiment
        self.label = label
        self.dataset = dataset
        self.seed = seed
        self.published_row = published_row
        self.supervision = supervision
        self.table3_rows: Mapping[str, str] = table3_rows or ZERO_SHOT_ROWS | {key: key for key in ROWS}

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the record, then the tables."""
        task = cast(Any, pl_module)
        evaluator: SegmentationEvaluator = task.evaluator
        methods: list[MethodResult] = [
            replace(method, table3_row=self.table3_rows.get(method.method)) for method in task.method_results()
        ]
        record = SegmentationRecord(
            experiment=self.experiment,
            label=self.label,
            dataset=self.dataset,
            published_row=self.published_row,
            seed=self.seed,
            methods=methods,
            git_revision=git_revision(),
            config_hash=config_hash(task.config | {"trained_with": getattr(task, "trained_with", {})}),
            environment=describe_environment(trainer),
            scores=[score for method in methods for score in evaluator.scores(method.method)],
            supervision=self.supervision,
            nsd_tolerance=evaluator.nsd_tolerance if evaluator.surfaces else None,
        )
        folder = Path(trainer.default_root_dir)
        record.write(folder)
        records = read_segmentation_records(folder.parent)
        for build in (build_table2, build_structure_table, build_table3, build_table3_structures):
            table = build(records)
            if table.rows:
                write_table(table, folder.parent / "tables")
