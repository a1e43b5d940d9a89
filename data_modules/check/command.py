"""The `data check` command."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data_modules.check.registry import DATASETS, class_path_of, load_class
from medzeroseg.imaging.errors import InputError

Write = Callable[[Path, str], None]
"""Writes a text to a file, wholly or not at all."""


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `check` to the parser of `medzeroseg data`."""
    commands = parser.add_subparsers(dest="data_command", required=True, metavar="COMMAND")
    add_check_arguments(commands.add_parser("check", help="read every file and tell what would break training"))


def add_check_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `medzeroseg data check` to a parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Read every file of a dataset and tell what would break training or spoil its scores: unreadable files,\n"
        "unknown labels, masks that do not fit, images and patients in two splits, captions. Nothing is changed."
    )
    names = "\n".join(f"  {name:<21}{dataset.about}" for name, dataset in DATASETS.items())
    parser.epilog = (
        f"datasets:\n{names}\n"
        "or the class path of a data module of your own (my_package.MyDataModule)\n\n"
        "exit code: 0 ready (perhaps with warnings), 1 something would break training, 2 wrong arguments or no such "
        "folder\n\n"
        "examples:\n"
        "  medzeroseg data check roco data/roco\n"
        "  medzeroseg data check acdc data/ACDC --json acdc.json --option corrupt=skip\n"
        "  medzeroseg data check roco_v2 data/roco_v2 --against roco data/roco"
    )
    parser.add_argument("dataset", metavar="DATASET", help="name of a dataset, see below")
    parser.add_argument("root", metavar="ROOT", type=Path, help="its folder")
    parser.add_argument(
        "--option",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="option of the data module as in an experiment's init_args; may be repeated",
    )
    parser.add_argument(
        "--splits", nargs="+", choices=("train", "val", "test"), help="splits to check (default: train val test)"
    )
    parser.add_argument("--json", metavar="PATH", type=Path, help="write the whole report, with every case, to a file")
    parser.add_argument("--workers", metavar="N", type=int, help="threads that read (default: the usable cores)")
    parser.add_argument(
        "--against",
        nargs=2,
        metavar=("DATASET", "ROOT"),
        help="another dataset in which to look for images with equal pixels",
    )
    parser.add_argument(
        "--against-option", metavar="KEY=VALUE", action="append", default=[], help="option of the other data module"
    )


def run_check(args: argparse.Namespace, write: Write, console: Console | None = None) -> int:
    """Check a dataset, show the report and write it.

    Args:
        args: What a parser with `add_check_arguments` returned.
        write: Writes the JSON report.
        console: Where to show it; by default the process's standard output.

    Returns:
        Exit code: 0, or 1 where something would break training.

    Raises:
        InputError: An argument is wrong, or a root cannot be listed.
    """
    console = console or Console()
    if args.workers is not None and args.workers < 1:
        raise InputError(f"data check: --workers must be at least 1, got {args.workers}")
    # Before the imports, which take seconds.
    _require_folder(args.root)
    class_path = class_path_of(args.dataset)
    if args.against:
        _require_folder(Path(args.against[1]))
        class_path_of(args.against[0])
    from data_modules.check.checked import OtherRoot
    from data_modules.check.checker import SPLITS, holders_of_pixels, judge, read_dataset, summarise
    from data_modules.check.findings import Report
    from data_modules.check.label_rules import label_summaries
    from data_modules.cores import usable_cores

    workers = args.workers or usable_cores()
    splits = [split for split in SPLITS if split in (args.splits or SPLITS)]
    module = _module(args.dataset, args.root, args.option)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:

        def follow(name: str) -> Callable[[int, int], None]:
            task = progress.add_task(name, total=None)
            return lambda done, total: progress.update(task, completed=done, total=total)

        other = None
        if args.against:
            name, root = args.against
            found, _ = read_dataset(_module(name, Path(root), args.against_option), SPLITS, workers, follow(name))
            other = OtherRoot(f"{name} at {root}", holders_of_pixels(found))
        checked, seconds = read_dataset(module, splits, workers, follow(args.dataset), other)
    report = Report(
        dataset=args.dataset,
        class_path=class_path,
        root=str(args.root),
        options=dict(_split_option(option) for option in args.option),
        splits=summarise(checked),
        labels=label_summaries(checked),
        findings=judge(checked),
        wall_s=seconds,
        workers=workers,
        bytes_read=sum(facts.file_bytes for facts in checked.facts),
    )
    from data_modules.check.screen import show

    show(report, console)
    if args.json is not None:
        write(args.json, json.dumps(report.as_data(), indent=2, ensure_ascii=False) + "\n")
    return report.exit_code


def _module(name: str, root: Path, options: Sequence[str]) -> Any:  # noqa: ANN401 - checked just below
    from data_modules.base import ImageTextDataModule
    from data_modules.check.options import build_module
    from data_modules.segmentation import SegmentationDataModule

    cls = load_class(class_path_of(name))
    if not issubclass(cls, ImageTextDataModule | SegmentationDataModule):
        raise InputError(f"data check: {name} is no ImageTextDataModule and no SegmentationDataModule")
    return build_module(cls, root, options)


def _require_folder(root: Path) -> None:
    """Refuse a root that is not there or cannot be listed, at once."""
    try:
        next(root.expanduser().iterdir(), None)
    except FileNotFoundError as error:
        raise InputError(f"data check: there is no folder {root}") from error
    except OSError as error:
        raise InputError(f"data check: {root} cannot be listed ({error.strerror}); choose a readable folder") from error


def _split_option(option: str) -> tuple[str, str]:
    key, _, value = option.partition("=")
    return key, value
