"""The command line: the only place that wires tasks, callbacks and data modules together."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from medzeroseg import __version__
from medzeroseg.errors import MedZeroSegError
from medzeroseg.experiments import find_experiment
from medzeroseg.files import write_atomically
from medzeroseg.imaging.errors import InputError

_LIGHTNING = {
    "fit": "train: medzeroseg fit --config experiments/phantom_cehnc.yaml",
    "validate": "evaluate on the validation split",
    "test": "evaluate on the test split and write the table",
    "predict": "write embeddings",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: The command line without the program's name; default: the process's.

    Returns:
        Exit code: 0, 1 where a run failed, 2 for bad input, configuration or paths. Neither shows a traceback.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except MedZeroSegError as error:
        print(f"medzeroseg: {error}", file=sys.stderr)  # noqa: T201 - the command's answer
        return error.exit_code
    except InputError as error:
        print(f"medzeroseg: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        print("medzeroseg: interrupted", file=sys.stderr)  # noqa: T201
        return 130


def _dispatch(words: list[str]) -> int:
    # Lightning's own commands parse their rest themselves; their imports take seconds, so they wait until needed.
    if words and words[0] in _LIGHTNING:
        from medzeroseg.cli import ExperimentCLI

        ExperimentCLI(words)
        return 0
    overrides: list[str] = []
    if "--" in words:
        split = words.index("--")
        words, overrides = words[:split], words[split + 1 :]
    args = _parser().parse_args(words)
    if args.command == "train":
        configs = [find_experiment(name) for name in args.experiments]
        from medzeroseg.training import train

        return train(configs, seeds=args.seeds, resume=args.resume, overrides=overrides)
    if args.command == "tables":
        from medzeroseg.training import merge_tables

        return merge_tables(args.runs)
    if args.command == "data":
        from data_modules.check import run_check

        return run_check(args, write_atomically)
    if args.command == "segment":
        from medzeroseg.inference.command import run_segment

        return run_segment(args)
    from data_modules.phantom import run_phantom

    return run_phantom(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="medzeroseg",
        description="Text-prompted, zero-shot medical image segmentation: train, evaluate, tabulate.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    train = commands.add_parser("train", help="fit, test with the best checkpoint, write the tables")
    train.add_argument(
        "experiments",
        nargs="+",
        metavar="EXPERIMENT",
        help="name of a file in experiments/, or the path of a YAML file; several are run one after another",
    )
    train.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run per seed (default: 0)")
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint of each seed")
    train.epilog = "Overrides of the experiment follow `--`, e.g. -- --trainer.max_epochs=3"
    tables = commands.add_parser("tables", help="merge the tables of all experiments")
    tables.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    for name, text in _LIGHTNING.items():
        commands.add_parser(name, help=text, add_help=False)
    segment = commands.add_parser("segment", help="segment your own images from text")
    from medzeroseg.inference.command import add_segment_arguments

    add_segment_arguments(segment)
    phantom = commands.add_parser("phantom", help="write a synthetic dataset, in the layout of a real one")
    from data_modules.phantom import add_phantom_arguments

    add_phantom_arguments(phantom)
    data = commands.add_parser("data", help="check a dataset before it is trained on")
    data_commands = data.add_subparsers(dest="data_command", required=True, metavar="COMMAND")
    from data_modules.check import add_check_arguments

    add_check_arguments(data_commands.add_parser("check", help="read every file and tell what would break training"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
