"""Prepares TensorBoard for a run: charts in groups at its start, its row among the runs at its end."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from medzeroseg.dashboard import LAYOUT, compared_metrics, compared_settings, tensorboards, write_comparison


class Dashboard(Callback):
    """Gives TensorBoard the layout of its charts, and after a test the run's settings and metrics (`hparams/`).

    A run without a TensorBoard logger gets neither.

    Args:
        experiment: Name of the experiment.
        label: The row's name in the tables.
        dataset: What is tested on.
        seed: The run's seed.
    """

    def __init__(self, experiment: str, label: str, dataset: str, seed: int = 0) -> None:
        self.names: dict[str, str | int] = {"experiment": experiment, "label": label, "dataset": dataset, "seed": seed}

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Group the charts."""
        for writer in tensorboards(trainer):
            writer.add_custom_scalars(LAYOUT)

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the row."""
        metrics = compared_metrics(trainer.callback_metrics)
        if metrics and tensorboards(trainer):
            settings = self.names | compared_settings(getattr(pl_module, "config", {}))
            write_comparison(Path(trainer.default_root_dir) / "hparams", settings, metrics)
