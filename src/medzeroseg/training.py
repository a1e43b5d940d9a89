"""`make train`: fit, test with the best checkpoint, write the tables; once per seed."""

import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from rich.console import Console

from medzeroseg.callbacks.start_record import started_by_this_job
from medzeroseg.checkpoints import read_checkpoint
from medzeroseg.cli import ExperimentCLI
from medzeroseg.errors import ConfigurationError
from medzeroseg.slurm import was_requeued
from medzeroseg.tables import Table, build_tables, is_finished, write_table

_LOG_WIDTH = 120  # of a table that goes to a file


class _Finished(Exception):  # noqa: N818 - ends a seed, not a fault
    """The run that was to be resumed has been tested already."""


class TrainCLI(ExperimentCLI):
    """`fit` that can go on from the run's last checkpoint, and that goes on to the test.

    Args:
        args: Command line of `fit`.
        resume: Go on from the run's last checkpoint.
    """

    def __init__(self, args: list[str], *, resume: bool) -> None:
        self.resume = resume
        super().__init__(["fit", *args])

    def before_instantiate_classes(self) -> None:
        """Find the checkpoint to go on from: asked for, or because Slurm has started the job again.

        A job that is started again before it began its own run finds an earlier one there; it makes room for its own.
        """
        config = self.config[str(self.subcommand)]
        folder = Path(config.trainer.default_root_dir)
        last = folder / "checkpoints" / "last.ckpt"
        if self.resume or (was_requeued() and started_by_this_job(folder)):
            self.archives = False
            if is_finished(folder):
                rank_zero_info(f"{folder} is finished; nothing to resume.")
                raise _Finished
            if last.is_file():
                read_checkpoint(last)
                config.ckpt_path = str(last)
            else:
                rank_zero_info(f"No checkpoint in {last.parent}; starting from the beginning.")
        super().before_instantiate_classes()

    def fit(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        **kwargs: Any,  # noqa: ANN401 - Lightning's options of `fit`
    ) -> None:
        """Fit (unless `trainer.max_epochs` is 0: an evaluation of the model as it is), then test."""
        best = ""
        if self.trainer.max_epochs != 0:
            self.trainer.fit(model, datamodule=datamodule, **kwargs)
            best = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        # Without validation there is no best checkpoint: the weights at hand are the last.
        self.trainer.test(model, datamodule=datamodule, ckpt_path=best or None, weights_only=True)


def train(configs: Sequence[Path], *, seeds: Sequence[int], resume: bool, overrides: Sequence[str]) -> int:
    """Run experiments one after another, each once per seed.

    An experiment with `trainer.max_epochs: 0` is an evaluation of a model as it is: the fit is left out.
    An earlier run of the same seed is moved to `<runs>/<experiment>/archive/`, unless it is resumed.

    Args:
        configs: Paths of experiment files.
        seeds: Seeds, each a run of its own in `<runs>/<experiment>/seed_<n>`.
        resume: Go on from each seed's last checkpoint; a seed that was tested already is left alone.
        overrides: Options that override the experiment's.

    Returns:
        Exit code 0.

    Raises:
        MedZeroSegError: With a message for a person.
    """
    folders = set()
    for config, seed in product(configs, seeds):
        try:
            cli = TrainCLI(["--config", str(config), f"--seed_everything={seed}", *overrides], resume=resume)
        except _Finished:
            continue
        folders.add(Path(cli.trainer.default_root_dir).parent)
    for folder in sorted(folders):
        for table in build_tables(folder):  # the test's callback has written them
            _show(table, folder / "tables")
    return 0


def merge_tables(runs: Path) -> int:
    """Write the tables over all finished runs to `<runs>/tables`.

    Args:
        runs: Folder of the runs.

    Returns:
        Exit code 0.

    Raises:
        ConfigurationError: There is no finished run.
    """
    tables = build_tables(runs)
    if not tables:
        raise ConfigurationError(f"No finished run under {runs.resolve()}. Start with: make train EXP=phantom_cehnc")
    for table in tables:
        write_table(table, runs / "tables")
        _show(table, runs / "tables")
    return 0


@rank_zero_only
def _show(table: Table, folder: Path) -> None:
    console = Console(width=None if sys.stdout.isatty() else _LOG_WIDTH)
    console.print(table.to_screen())
    console.print(f"All columns: {folder}/{table.name}.{{md,csv,tex,json}}")
