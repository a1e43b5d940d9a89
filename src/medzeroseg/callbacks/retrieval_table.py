"""Writes the record of a run, and Table 1 over the runs of its experiment."""

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from medzeroseg.callbacks.retrieval import RetrievalEvaluator, summarise_ranks
from medzeroseg.provenance import config_hash, describe_environment, git_revision
from medzeroseg.tables import RunRecord, build_table1, read_records, write_table


class RetrievalTable(Callback):
    """After a test, leaves `retrieval.json` and `retrieval_ranks.csv` in the run's folder and Table 1 beside the seeds.

    Rank 0 alone writes. Training time is kept in checkpoints, so that a resumed run reports all of it.

    Args:
        experiment: Name of the experiment.
        label: The row's name in the table.
        dataset: What is tested on.
        seed: The run's seed.
        published_row: Key of the published figures to show beside the row.
    """

    def __init__(
        self, experiment: str, label: str, dataset: str, seed: int = 0, published_row: str | None = None
    ) -> None:
        self.experiment = experiment
        self.label = label
        self.dataset = dataset
        self.seed = seed
        self.published_row = published_row
        self._fit_s = 0.0
        self._restored_s = 0.0
        self._started = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Seconds of training so far."""
        return {"fit_s": self._elapsed()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep what a checkpoint says; only a fit that goes on from it counts on: a test restores the best one."""
        self._restored_s = state_dict["fit_s"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, or let it go on."""
        self._fit_s = self._restored_s
        self._started = time.perf_counter()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._fit_s, self._started = self._elapsed(), 0.0

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the test."""
        self._test_started = time.perf_counter()

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the record, then the table of all finished seeds of the experiment."""
        evaluator = pl_module.evaluator
        if not isinstance(evaluator, RetrievalEvaluator) or not evaluator.ranks:
            return
        ranks = {name: tensor.tolist() for name, tensor in evaluator.ranks.items()}
        case_ids: list[str] = trainer.datamodule.case_ids("test")  # type: ignore[attr-defined]  # set by Lightning
        columns = ("full/image_to_text", "full/text_to_image", "small/image_to_text", "small/text_to_image")
        folder = Path(trainer.default_root_dir)
        record = RunRecord(
            experiment=self.experiment,
            label=self.label,
            dataset=self.dataset,
            published_row=self.published_row,
            seed=self.seed,
            test_pairs=len(ranks["index"]),
            small_gallery=evaluator.small_gallery,
            metrics={
                key: round(value.item(), 4)
                for key, value in summarise_ranks(evaluator.ranks, evaluator.top_k, evaluator.small_gallery).items()
            },
            fit_minutes=self._fit_s / 60,
            test_minutes=(time.perf_counter() - self._test_started) / 60,
            git_revision=git_revision(),
            config_hash=config_hash(getattr(pl_module, "config", {})),
            environment=describe_environment(trainer),
            ranks={
                case_ids[index]: values
                for index, values in zip(ranks["index"], zip(*(ranks[c] for c in columns), strict=True), strict=True)
            },
        )
        record.write(folder)
        write_table(build_table1(read_records(folder.parent)), folder.parent / "tables")

    def _elapsed(self) -> float:
        return self._fit_s + (time.perf_counter() - self._started if self._started else 0.0)
