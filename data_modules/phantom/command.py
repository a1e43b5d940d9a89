"""The `phantom` command."""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from data_modules.phantom.acdc import AcdcLayout
from data_modules.phantom.covid_qu_ex import CovidQuExLayout
from data_modules.phantom.generation import Generated, generate
from data_modules.phantom.layout import Layout
from data_modules.phantom.roco import RocoLayout, roco_report
from data_modules.phantom.synapse import SynapseLayout
from medzeroseg.imaging.errors import InputError


class _Choice(NamedTuple):
    """A layout on the command line.

    Args:
        layout: Its class.
        out: Folder that is written when none is given.
        options: Which options it takes, and the parameter that each sets.
    """

    layout: type[Layout[Any, Any]]
    out: Path
    options: dict[str, str]


_SPLITS = ("train", "validation", "test")
_CHOICES = {
    "roco": _Choice(
        RocoLayout,
        Path("data/phantom"),
        {name: name for name in (*_SPLITS, "image_size_px", "hard_negative_fraction")},
    ),
    "acdc": _Choice(AcdcLayout, Path("data/phantom_acdc"), {"train": "training", "test": "testing"}),
    "synapse": _Choice(SynapseLayout, Path("data/phantom_synapse"), {"cases": "volumes", "image_size_px": "size_px"}),
    "covid_qu_ex": _Choice(CovidQuExLayout, Path("data/phantom_covid_qu_ex"), {name: name for name in _SPLITS}),
}


def add_phantom_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `medzeroseg phantom` to a parser."""

    def add_size(option: str, kind: type[int] | type[float], text: str) -> None:
        name = option.replace("-", "_")
        defaults = [
            f"{layout} {choice.layout.__dataclass_fields__[choice.options[name]].default}"
            for layout, choice in _CHOICES.items()
            if name in choice.options
        ]
        parser.add_argument(f"--{option}", type=kind, default=None, help=f"{text} ({', '.join(defaults)})")

    parser.add_argument("--layout", choices=list(_CHOICES), default="roco", help="what is written (%(default)s)")
    folders = ", ".join(str(choice.out) for choice in _CHOICES.values())
    parser.add_argument("--out", type=Path, default=None, help=f"folder to write (by layout {folders})")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal bytes (%(default)s)")
    add_size("train", int, "training items, patients or pictures")
    add_size("validation", int, "validation items or pictures")
    add_size("test", int, "test items, patients or pictures")
    add_size("cases", int, "volumes")
    add_size("image-size-px", int, "width and height")
    add_size("hard-negative-fraction", float, "share of the items in pairs that differ in one fact")
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
        InputError: If an argument is out of range or of another layout, or the folder cannot be used.
    """
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        layout = make_layout(args)
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("phantom", total=sum(map(layout.size_of, layout.jobs())))
            generated = generate(
                layout,
                _CHOICES[args.layout].out if args.out is None else args.out,
                workers=args.workers,
                on_progress=lambda done: progress.advance(task, done),
            )
    except ValueError as error:
        raise InputError(f"phantom: {error}") from error
    state = f"written in {generated.wall_s:.1f} s" if generated.created else "already there"
    console.print(f"Phantom in {generated.out}: {state}", markup=False, highlight=False, soft_wrap=True)
    console.print(_summary(generated))
    return 0


def make_layout(args: argparse.Namespace) -> Layout[Any, Any]:
    """Return the layout that the arguments describe.

    Raises:
        InputError: If an option is given that the layout has no use for.
        ValueError: If a parameter is out of range.
    """
    choice = _CHOICES[args.layout]
    names = {name for other in _CHOICES.values() for name in other.options}
    given = {name: getattr(args, name) for name in sorted(names) if getattr(args, name) is not None}
    for name in given.keys() - choice.options.keys():
        known = ", ".join(_flag(option) for option in choice.options)
        raise InputError(f"phantom: --layout {args.layout} has no {_flag(name)}; its sizes are set by {known}")
    return choice.layout(seed=args.seed, **{choice.options[name]: value for name, value in given.items()})


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _summary(generated: Generated) -> Table:
    manifest = generated.manifest
    table = Table(caption=f"content {manifest['content_sha256'][:16]}")
    pairs = manifest["layout"] == RocoLayout.name
    for heading in ("split", "items", *(("in hard-negative pairs", "repeated captions") if pairs else ())):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split, count in manifest["items"].items():
        row = [split, str(count)]
        if pairs:
            report = roco_report(generated)
            row += [str(report.paired_items[split]), f"{100 * report.duplicate_captions[split]:.1f} %"]
        table.add_row(*row)
    return table
