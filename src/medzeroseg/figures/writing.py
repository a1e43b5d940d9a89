"""Figures of the finished runs below a folder, as files and for TensorBoard."""

import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from medzeroseg.figures.columns import Layout, fill_columns
from medzeroseg.figures.composing import Composed, compose_figure, compose_saliency
from medzeroseg.figures.drawing import draw, to_pdf, to_png
from medzeroseg.files import write_atomically
from medzeroseg.tables.segmentation_records import read_segmentation_records


@dataclass(frozen=True)
class WrittenFigure:
    """A figure in its files.

    Attributes:
        name: Their stem, e.g. `figure4_acdc`.
        caption: Which cases, rule, models, seeds.
        png: The picture; a PDF and a JSON lie beside it.
    """

    name: str
    caption: str
    png: Path


def write_figures(runs: Path, folder: Path) -> tuple[list[WrittenFigure], list[str]]:
    """Draw Figures 4 to 6 and the saliency sheets of the datasets for which there are runs.

    Args:
        runs: Folder of the runs: `<runs>/<experiment>/seed_<n>`.
        folder: Where to; its `tensorboard` is made anew.

    Returns:
        What was written, and what is missing in which figure.

    Raises:
        ConfigurationError: A run's record or slices are damaged.
        OutputError: The folder cannot be written to.
    """
    composed, missing = compose_all(runs)
    written: list[WrittenFigure] = []
    if not composed:
        return written, missing
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)  # or each call would add its pictures to the last one's
    with SummaryWriter(str(folder / "tensorboard")) as board:
        for one in composed:
            drawn, png = draw(one.sheet), folder / f"{one.name}.png"
            picture = to_png(drawn)
            write_atomically(png, picture)
            write_atomically(png.with_suffix(".pdf"), to_pdf(drawn))
            write_atomically(png.with_suffix(".json"), json.dumps(one.values, indent=2, ensure_ascii=False) + "\n")
            pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
            board.add_image(f"figures/{one.name}", pixels, dataformats="HWC")
            written.append(WrittenFigure(one.name, one.values["caption"], png))
    return written, missing


def compose_all(runs: Path) -> tuple[list[Composed], list[str]]:
    """What can be drawn, in the layout's order, and what is missing in which figure.

    Args:
        runs: Folder of the runs.

    Raises:
        ConfigurationError: A run's record or slices are damaged.
    """
    layout, records = Layout.load(), read_segmentation_records(runs)
    composed: list[Composed] = []
    missing: list[str] = []
    for number, datasets in layout.datasets.items():
        for dataset in (name for name in datasets if any(record.dataset == name for record in records)):
            columns = fill_columns(layout, dataset, records, runs)
            empty = [f"{column.rule.title} ({column.problem})" for column in columns if not column.filled]
            missing += [f"{number}_{dataset}: without {', '.join(empty)}"] if empty else []
            figure = compose_figure(number, dataset, columns, layout)
            if figure is None:
                missing.append(f"{number}_{dataset}: not drawn: no run that chooses cases, or no case in all columns")
                continue
            shown = next((row["case_id"] for row in figure.values["cases"] if row["rank"] == "median"), None)
            shown = shown or figure.values["cases"][0]["case_id"]
            sheets = [compose_saliency(dataset, column, shown) for column in columns]
            composed += [figure, *(sheet for sheet in sheets if sheet is not None)]
    return composed, missing
