"""A table as CSV, Markdown, LaTeX and JSON, each written atomically."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table as RichTable

from medzeroseg.files import write_atomically

_LATEX = str.maketrans(
    {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "±": r"$\pm$", "λ": r"$\lambda$", "→": r"$\to$"}
)


@dataclass
class Table:
    """A table ready to be written.

    Attributes:
        name: Stem of the files, e.g. `table1`.
        caption: What is shown, on what, and what the spread is over.
        columns: Column heads.
        rows: Cells as text, one list per row.
        notes: Lines below the table.
        values: The same rows as numbers and plain values, for the JSON.
        screen_columns: The columns that a terminal has room for; empty: all.
    """

    name: str
    caption: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    values: list[dict[str, object]] = field(default_factory=list)
    screen_columns: tuple[str, ...] = ()

    def to_csv(self) -> str:
        """Comma-separated, one head line."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *self.rows])
        return text.getvalue()

    def to_markdown(self) -> str:
        """GitHub-flavoured Markdown."""
        lines = [f"**{self.caption}**", "", _bar(self.columns), _bar(["---"] * len(self.columns))]
        lines += [_bar(row) for row in self.rows]
        lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"

    def to_latex(self) -> str:
        """A `tabular` in a `table` (booktabs)."""
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{self.caption.translate(_LATEX)}}}"]
        lines += [rf"\begin{{tabular}}{{l{'c' * (len(self.columns) - 1)}}}", r"\toprule"]
        lines += [_latex_row(self.columns), r"\midrule", *map(_latex_row, self.rows), r"\bottomrule"]
        lines += [r"\end{tabular}", *(rf"% {note}" for note in self.notes), r"\end{table}"]
        return "\n".join(lines) + "\n"

    def to_screen(self) -> RichTable:
        """The columns that a terminal has room for."""
        shown = [n for n, column in enumerate(self.columns) if not self.screen_columns or column in self.screen_columns]
        table = RichTable(title=self.caption, title_justify="left")
        for n in shown:
            table.add_column(self.columns[n], overflow="fold")
        for row in self.rows:
            table.add_row(*(row[n] for n in shown))
        return table

    def to_json(self) -> str:
        """Caption, notes and the numeric rows."""
        content = {"name": self.name, "caption": self.caption, "notes": self.notes, "rows": self.values}
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def write_table(table: Table, folder: Path) -> list[Path]:
    """Write the four files of a table.

    Args:
        table: The table.
        folder: Where to; made if absent.

    Returns:
        The paths written, Markdown first.

    Raises:
        OutputError: The folder cannot be written to.
    """
    contents = {
        "md": table.to_markdown(),
        "csv": table.to_csv(),
        "tex": table.to_latex(),
        "json": table.to_json(),
    }
    for suffix, content in contents.items():
        write_atomically(folder / f"{table.name}.{suffix}", content)
    return [folder / f"{table.name}.{suffix}" for suffix in contents]


def _bar(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cell.translate(_LATEX) for cell in cells) + r" \\"
