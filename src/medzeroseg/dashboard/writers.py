"""The TensorBoard writers of a run."""

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter


def tensorboards(trainer: Trainer) -> list[SummaryWriter]:
    """Those of its TensorBoard loggers; empty if it logs elsewhere only, and dummies on ranks above 0."""
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
