"""`medzeroseg figures`: Figures 4 to 6 and saliency sheets of the finished runs below a folder."""

import argparse
from pathlib import Path

from medzeroseg.errors import ConfigurationError

FOLDER = "figures"


def add_figures_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `medzeroseg figures` to a parser."""
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")


def run_figures(args: argparse.Namespace) -> int:
    """Draw what the finished runs allow, into `<runs>/figures` and for TensorBoard.

    Args:
        args: What `add_figures_arguments` parses.

    Returns:
        Exit code 0.

    Raises:
        ConfigurationError: No run allows a figure, or a run's files are damaged.
        OutputError: The folder cannot be written to.
    """
    from medzeroseg.figures.writing import write_figures

    written, missing = write_figures(args.runs, args.runs / FOLDER)
    for line in [*(f"{one.png.with_suffix('')}.{{png,pdf,json}}" for one in written), *missing]:
        print(line)  # noqa: T201 - the command's answer
    if not written:
        raise ConfigurationError(
            f"No finished run under {args.runs.resolve()} allows a figure: cases are chosen by a zero-shot run with "
            "MedZeroSeg's model. Start with: make train EXP=phantom_acdc_zeroshot"
        )
    return 0
