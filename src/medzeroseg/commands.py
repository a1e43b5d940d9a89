"""The `train` and `tables` commands: arguments and runs that import torch only when the work starts."""

import argparse
from pathlib import Path

from medzeroseg.experiments import find_experiment
from medzeroseg.stop_signals import listening


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `medzeroseg train` to a parser."""
    parser.add_argument(
        "experiments",
        nargs="+",
        metavar="EXPERIMENT",
        help="name of a file in experiments/, or the path of a YAML file; several are run one after another",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run per seed (default: 0)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint of each seed")
    parser.add_argument("--gpus", type=int, help="of this machine; 0: the CPU (default: what the experiment says)")
    parser.epilog = "Overrides of the experiment follow `--`, e.g. -- --trainer.max_epochs=3"


def run_train(args: argparse.Namespace) -> int:
    """Train and test experiments.

    Args:
        args: What `add_train_arguments` parses, and `overrides`: the words after `--`.

    Returns:
        Exit code.

    Raises:
        MedZeroSegError: With a message for a person.
    """
    configs = [find_experiment(name) for name in args.experiments]
    with listening():  # before the imports, which take seconds
        from medzeroseg.devices import trainer_options
        from medzeroseg.training import train

        overrides = [*trainer_options(args.gpus), *args.overrides]
        return train(configs, seeds=args.seeds, resume=args.resume, overrides=overrides)


def add_tables_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `medzeroseg tables` to a parser."""
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")


def run_tables(args: argparse.Namespace) -> int:
    """Write the tables over all finished runs.

    Args:
        args: What `add_tables_arguments` parses.

    Returns:
        Exit code.

    Raises:
        ConfigurationError: There is no finished run.
    """
    from medzeroseg.training import merge_tables

    return merge_tables(args.runs)
