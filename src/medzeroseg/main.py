"""The command line: the only place that wires tasks, callbacks and data modules together.

A command lives with its area, as two functions: one adds its arguments to a parser, one runs it. `COMMANDS` names them;
only the command that was asked for is imported, so that `--help` answers at once.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from medzeroseg import __version__
from medzeroseg.errors import MedZeroSegError
from medzeroseg.files import write_atomically


@dataclass(frozen=True)
class Command:
    """One line of the table of commands.

    Args:
        name: The word on the command line.
        help: What it does, for `medzeroseg --help`.
        arguments: `module:function`; the function takes an `argparse.ArgumentParser` and adds the arguments.
        run: `module:function`; the function takes the parsed arguments and returns the exit code.
        takes_overrides: Whether the words after `--` are its own; they come as `overrides` of the parsed arguments.
        services: Keyword arguments for `run`: what an area needs but may not import.
    """

    name: str
    help: str
    arguments: str
    run: str
    takes_overrides: bool = False
    services: Mapping[str, Any] = field(default_factory=dict)


COMMANDS = (
    Command(
        "train",
        "fit, test with the best checkpoint, write the tables",
        "medzeroseg.commands:add_train_arguments",
        "medzeroseg.commands:run_train",
        takes_overrides=True,
    ),
    Command(
        "tables",
        "merge the tables of all experiments",
        "medzeroseg.commands:add_tables_arguments",
        "medzeroseg.commands:run_tables",
    ),
    Command(
        "figures",
        "draw Figures 4-6 and the saliency sheets of all experiments",
        "medzeroseg.figures.command:add_figures_arguments",
        "medzeroseg.figures.command:run_figures",
    ),
    Command(
        "paper",
        "run everything behind Tables 1-3 and Figures 4-6, and write one report",
        "medzeroseg.paper.command:add_paper_arguments",
        "medzeroseg.paper.command:run_paper",
        takes_overrides=True,
        services={"packages": ("medzeroseg", "data_modules"), "preload": ("medzeroseg.training", "medzeroseg.tasks")},
    ),
    Command(
        "slurm",
        "submit a training to a Slurm cluster",
        "medzeroseg.slurm.command:add_slurm_arguments",
        "medzeroseg.slurm.command:run_slurm",
        takes_overrides=True,
    ),
    Command(
        "segment",
        "segment your own images from text",
        "medzeroseg.inference.command:add_segment_arguments",
        "medzeroseg.inference.command:run_segment",
    ),
    Command(
        "export",
        "write a trained model as a folder for others: safetensors, model card, ONNX, hub",
        "medzeroseg.export.command:add_export_arguments",
        "medzeroseg.export.command:run_export",
    ),
    Command(
        "serve",
        "a web page on this machine: drop an image, type words, see masks",
        "medzeroseg.web.command:add_serve_arguments",
        "medzeroseg.web.command:run_serve",
    ),
    Command(
        "phantom",
        "write a synthetic dataset, in the layout of a real one",
        "data_modules.phantom:add_phantom_arguments",
        "data_modules.phantom:run_phantom",
    ),
    Command(
        "data",
        "check a dataset before it is trained on",
        "data_modules.check:add_data_arguments",
        "data_modules.check:run_check",
        services={"write": write_atomically},
    ),
)

LIGHTNING = {
    "fit": "train: medzeroseg fit --config experiments/phantom_cehnc.yaml",
    "validate": "evaluate on the validation split",
    "test": "evaluate on the test split and write the table",
    "predict": "write embeddings",
}
"""Commands whose words Lightning parses."""


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
        return _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except Exception as error:
        from medzeroseg.imaging.errors import InputError  # its package imports numpy: only once something was raised

        if not isinstance(error, InputError):
            raise
        return _complain(str(error), 2)


def build_parser(words: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """Parser of the whole command line, without what Lightning parses.

    Args:
        words: A command line: of a command that it does not name, no more than the name is known, and nothing is
            imported. Default: every argument of every command.

    Returns:
        The parser; its result names the command as `command`.
    """
    parser = argparse.ArgumentParser(
        prog="medzeroseg",
        description="Text-prompted, zero-shot medical image segmentation: train, evaluate, tabulate.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        added = commands.add_parser(command.name, help=command.help)
        if words is None or command.name in words:
            _load(command.arguments)(added)
    for name, text in LIGHTNING.items():
        commands.add_parser(name, help=text, add_help=False)
    return parser


def _dispatch(words: list[str]) -> int:
    if words and words[0] in LIGHTNING:
        from medzeroseg.cli import ExperimentCLI

        ExperimentCLI(words)
        return 0
    commands = {command.name: command for command in COMMANDS}
    overrides: list[str] = []
    if words and words[0] in commands and commands[words[0]].takes_overrides and "--" in words:
        split = words.index("--")
        words, overrides = words[:split], words[split + 1 :]
    args = build_parser(words).parse_args(words)
    args.overrides = overrides
    command = commands[args.command]
    code: int = _load(command.run)(args, **command.services)
    return code


def _load(target: str) -> Callable[..., Any]:
    module, _, name = target.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function


def _complain(message: str, code: int) -> int:
    print(f"medzeroseg: {message}", file=sys.stderr)  # noqa: T201 - the command's answer
    return code


if __name__ == "__main__":
    sys.exit(main())
