"""The Lightning command line: fit, validate, test, predict from experiment files."""

from pathlib import Path
from typing import Any, ClassVar, NoReturn

import jsonargparse
import torch.utils.deterministic
import yaml
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from omegaconf.errors import OmegaConfBaseException

from medzeroseg.callbacks.dashboard import Dashboard
from medzeroseg.callbacks.stall_clock import StallClock
from medzeroseg.callbacks.start_record import StartRecord
from medzeroseg.callbacks.step_checkpoint import StepCheckpoint
from medzeroseg.callbacks.step_seeds import StepSeeds
from medzeroseg.checkpoint_io import AtomicCheckpointIO
from medzeroseg.checkpoints import read_checkpoint
from medzeroseg.config_errors import explain_parser_error
from medzeroseg.errors import ConfigurationError
from medzeroseg.failures import end_launched_ranks, explain_failure
from medzeroseg.files import require_writable, write_atomically
from medzeroseg.run_folder import archive

DEFAULTS = Path(__file__).with_name("defaults.yaml")
SUBCOMMANDS = ("fit", "validate", "test", "predict")
_CHECKPOINT_WORDS = ("best", "last", "hpc", "registry")  # Lightning finds these by itself
_TRAINER_SETTINGS = ("max_epochs", "max_steps", "precision", "accumulate_grad_batches", "gradient_clip_val")

# Before any parser is made: ${...} in a nested file would otherwise be resolved against the wrong root.
jsonargparse.set_parsing_settings(omegaconf_absolute_to_relative_paths=True)


class ExperimentParser(LightningArgumentParser):
    """Says what is wrong in one readable message instead of printing the usage of 100 options."""

    words: ClassVar[list[str]] = []
    """The command line being parsed, in which a message can point to the place of a fault."""
    folder: ClassVar[Path] = Path()
    """Where it was given."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise instead of exiting; `medzeroseg.main` prints the message and exits with code 2."""
        if not self.exit_on_error:  # an inner parser, tried for one class: the outer one tells the whole story
            super().error(message, ex)
        raise ConfigurationError(explain_parser_error(message, self.words, self.folder)) from ex


class SaveRunConfig(SaveConfigCallback):
    """Writes the fully resolved configuration to `config.yaml` in the run's folder, atomically.

    What a model was trained with stays, whatever is done with it later.
    """

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write it; Lightning calls this on rank 0 alone."""
        path = Path(trainer.default_root_dir) / "config.yaml"
        if stage == "fit" or not path.exists():
            write_atomically(path, self.parser.dump(self.config, skip_none=False))


class ExperimentCLI(LightningCLI):
    """LightningCLI with interpolation across files, the project's defaults, and checks before the work starts.

    Args:
        args: Command line without the program's name, e.g. `["fit", "--config", "experiments/phantom_cehnc.yaml"]`.
    """

    archives = True
    """Whether a new fit moves an earlier run out of its folder."""

    def __init__(self, args: list[str]) -> None:
        # "omegaconf+" resolves ${...} once, after command-line overrides and across files; plain "omegaconf" resolves
        # each file by itself, before the overrides: silently wrong.
        ExperimentParser.words, ExperimentParser.folder = args, Path.cwd()
        shared: dict[str, Any] = {"parser_mode": "omegaconf+", "default_config_files": [str(DEFAULTS)]}
        try:
            super().__init__(
                model_class=LightningModule,
                datamodule_class=LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                seed_everything_default=0,
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                save_config_callback=SaveRunConfig,
                save_config_kwargs={"overwrite": True, "save_to_log_dir": False},
                parser_class=ExperimentParser,
                parser_kwargs={"parser_mode": "omegaconf+", **{name: dict(shared) for name in SUBCOMMANDS}},
                args=args,
            )
        except BaseException as error:
            if hasattr(self, "trainer"):
                end_launched_ranks(self.trainer)
            if not isinstance(error, RuntimeError | MemoryError):
                raise
            config = getattr(getattr(self, "model", None), "config", {})
            explained = explain_failure(error, config, getattr(getattr(self, "datamodule", None), "reading", None))
            if explained is None:
                raise
            raise explained from error

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what names an experiment and its row in the tables, and what watches over every run.

        The latter are callbacks of their own rather than in `trainer.callbacks`, which experiments replace.
        """
        parser.add_argument("--experiment", type=str, default="unnamed", help="Name of the run's folder under runs/.")
        parser.add_argument("--label", type=str, default="${experiment}", help="Name of its row in the tables.")
        parser.add_argument("--dataset", type=str, default="unnamed", help="What it is tested on; groups the rows.")
        parser.add_argument("--published_row", type=str | None, default=None, help="Published figures to show beside.")
        parser.add_argument("--runs_dir", type=str, default="runs", help="Folder of all runs.")
        for callback, key in (
            (StepSeeds, "step_seeds"),
            (StepCheckpoint, "step_checkpoint"),
            (StallClock, "stall_clock"),
            (StartRecord, "start_record"),
            (Dashboard, "dashboard"),
        ):
            parser.add_lightning_class_args(callback, key)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, and look at the checkpoint that is named; a ${...} that leads nowhere is a fault like any other.

        Raises:
            ConfigurationError: An unknown or ill-typed key, or an interpolation that cannot be resolved.
            CheckpointError: The checkpoint is missing or damaged.
        """
        try:
            # Not through super(), which warns of arguments given twice whenever the process has some of its own.
            self.config = parser.parse_args(ExperimentParser.words)
        except OmegaConfBaseException as error:
            place = f" (in {error.full_key})" if error.full_key else ""
            raise ConfigurationError(f"Configuration error: {str(error).splitlines()[0]}{place}") from error
        checkpoint = self.config[self.config.subcommand].ckpt_path
        if checkpoint and checkpoint not in _CHECKPOINT_WORDS:
            read_checkpoint(Path(checkpoint))

    def before_instantiate_classes(self) -> None:
        """Make room for a new run, and refuse what cannot end well before data and model are loaded.

        Raises:
            OutputError: The run's folder cannot be written to.
            ConfigurationError: A trained model is to be tested, but no checkpoint is named.
        """
        config = self.config[str(self.subcommand)]
        folder = Path(config.trainer.default_root_dir)
        if self.subcommand == "test" and not config.ckpt_path and config.trainer.max_epochs != 0:
            raise ConfigurationError(
                "test needs the checkpoint of a trained model, or it would test random weights: "
                f"--ckpt_path={folder}/checkpoints/best.ckpt (`medzeroseg train` goes on to the test by itself)"
            )
        if self.subcommand == "fit" and self.archives and not config.ckpt_path and not config.trainer.fast_dev_run:
            archive(folder)
        if self.subcommand == "fit":
            _validate_at_least_once(config.trainer)
        rank_zero_only(require_writable)(folder)
        config.weights_only = True  # a checkpoint is data, never code

    def instantiate_classes(self) -> None:
        """Build data, model and trainer.

        Raises:
            ConfigurationError: A class refuses the value of one of its arguments, or the precision cannot be had here.
        """
        try:
            super().instantiate_classes()
        except (ValueError, MisconfigurationException) as error:
            message = explain_parser_error(str(error), ExperimentParser.words, ExperimentParser.folder)
            raise ConfigurationError(message) from error
        precision = self.config[str(self.subcommand)].trainer.precision
        if precision == "16-mixed" and self.trainer.precision != precision:
            raise ConfigurationError(
                f"trainer.precision={precision} needs a GPU; Lightning would go on with {self.trainer.precision} on "
                f"this machine. Say so yourself: --trainer.precision={self.trainer.precision}"
            )

    def after_instantiate_classes(self) -> None:
        """Write checkpoints so that none is ever half-written; give the task the configuration that made it."""
        # `trainer.deterministic` would also have torch fill all memory that it hands out, which shows who reads what
        # was never written: a pass over every new tensor that changes no result
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property
        if type(self.trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # else the experiment has one of its own
            self.trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        if hasattr(self.model, "config"):
            dump = yaml.safe_load(self._parser(self.subcommand).dump(self.config[str(self.subcommand)]))
            trainer = {key: dump["trainer"].get(key) for key in _TRAINER_SETTINGS}
            task: Any = self.model
            task.config = {"model": dump["model"], "data": dump["data"], "trainer": trainer}


def _validate_at_least_once(trainer: Any) -> None:  # noqa: ANN401 - a namespace of the parser
    """Validate a training shorter than `check_val_every_n_epoch` at its end: else it would leave no checkpoint."""
    if 0 < (trainer.max_epochs or 0) < (trainer.check_val_every_n_epoch or 0):
        rank_zero_info(
            f"trainer.check_val_every_n_epoch={trainer.check_val_every_n_epoch} is more than this run's "
            f"epochs ({trainer.max_epochs}); validating once, at its end."
        )
        trainer.check_val_every_n_epoch = trainer.max_epochs
