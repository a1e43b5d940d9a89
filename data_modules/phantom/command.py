"""The `phantom` command."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from data_modules.phantom.roco import PhantomReport, generate_roco
from medzeroseg.imaging.errors import InputError


def add_phantom_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `medzeroseg phantom` to a parser."""
    parser.add_argument("--out", type=Path, default=Path("data/phantom"), help="folder to write (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal bytes (%(default)s)")
    parser.add_argument("--train", type=int, default=4000, help="training items (%(default)s)")
    parser.add_argument("--validation", type=int, default=500, help="validation items (%(default)s)")
    parser.add_argument("--test", type=int, default=1000, help="test items (%(default)s)")
    parser.add_argument("--image-size-px", type=int, default=128, help="width and height (%(default)s)")
    parser.add_argument(
        "--hard-negative-fraction",
        type=float,
        default=0.3,
        help="share of the items in pairs that differ in one fact (%(default)s)",
    )
    parser.add_argument(
        "--workers", type=int, default=None, help="worker processes, 0 for none (all processors, at most 8)"
    )


def run_phantom(args: argparse.Namespace) -> int:
    """Generate the phantom that the arguments describe and show a summary.

    Args:
        args: What a parser with `add_phantom_arguments` returned.

    Returns:
        Exit code 0.

    Raises:
        InputError: If an argument is out of range or the folder cannot be used.
    """
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("phantom", total=max(args.train + args.validation + args.test, 0))
            report = generate_roco(
                args.out,
                seed=args.seed,
                train=args.train,
                validation=args.validation,
                test=args.test,
                image_size_px=args.image_size_px,
                hard_negative_fraction=args.hard_negative_fraction,
                workers=args.workers,
                on_progress=lambda done: progress.advance(task, done),
            )
    except ValueError as error:
        raise InputError(f"phantom: {error}") from error
    console.print(_summary(report))
    return 0


def _summary(report: PhantomReport) -> Table:
    state = f"written in {report.wall_s:.1f} s" if report.created else "already there"
    table = Table(title=f"Phantom in {report.out}: {state}", caption=f"content {report.content_sha256[:16]}")
    for heading in ("split", "items", "in hard-negative pairs", "repeated captions"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split, count in report.items.items():
        table.add_row(
            split,
            str(count),
            str(report.paired_items[split]),
            f"{100 * report.duplicate_captions[split]:.1f} %",
        )
    return table
