"""A table as CSV, Markdown, LaTeX, JSON and HTML; files are written atomically."""

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from pathlib import Path

from rich.table import Table as RichTable

from medzeroseg.files import write_atomically

_LATEX = str.maketrans(
    {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "±": r"$\pm$", "λ": r"$\lambda$", "→": r"$\to$"}
)

# Heads of columns whose best value is set in bold in HTML; of the others no value is better
_HIGHER = re.compile(r"(i→t|t→i) top-\d+|IoU|DSC(, present)?|AUC|Pointing|NSD|% of full DSC")
_LOWER = re.compile(r"HD95")
# Rows with one of these among their `values` are not compared
_LABELS = ("labels_used", "chosen_on_validation", "reveals_ground_truth")
# Rows are compared within these of their `values`
_GROUP = ("dataset", "gallery", "structure")
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(?![\w.])")
_NUMERIC = re.compile(r"-|reference|mixed units|<?[-+]?\d+(\.\d+)?([%*]|\s*(±|\(|\[|/|,|;|mm\b|px\b|min\b).*)*")


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

    def to_html(self, sources: Sequence[str] = ()) -> str:
        """A `<figure>` of a caption, a `<table>` in a box that scrolls, and notes; all text is escaped.

        The best value of a column is bold among the rows of one dataset (gallery, structure), where there are several.
        Rows that used labels, if only to be chosen, or whose prompts tell what is to be found, are not compared.

        Args:
            sources: HTML for a last column, one for each row: where its figures come from. Empty: no such column.
        """
        columns = [*self.columns, *(["Source"] if sources else [])]
        numeric = {n for n in range(len(self.columns)) if all(_NUMERIC.fullmatch(row[n]) for row in self.rows)}
        best = self._best_cells()
        lines = [f'<figure class="table" id="{escape(self.name)}"><figcaption>{escape(self.caption)}</figcaption>']
        lines += ['<div class="scroll" tabindex="0"><table><thead><tr>']
        lines += [f'<th scope="col"{_side(n in numeric)}>{escape(column)}</th>' for n, column in enumerate(columns)]
        lines += ["</tr></thead><tbody>"]
        starts = {n + 1 for n, (above, row) in enumerate(pairwise(self.rows)) if above[0] != row[0]}
        for n, row in enumerate(self.rows):
            texts = [
                f"<strong>{escape(cell)}</strong>" if (n, m) in best else escape(cell) for m, cell in enumerate(row)
            ]
            cells = [f"<td{_side(m in numeric)}>{text}</td>" for m, text in enumerate(texts)]
            cells += [f"<td>{sources[n]}</td>"] if sources else []
            lines.append(('<tr class="start">' if n in starts else "<tr>") + "".join(cells) + "</tr>")
        lines += ["</tbody></table></div>"]
        notes = self.notes + (
            ["Bold: the best of the rows of one dataset (gallery, structure) that used no labels."] if best else []
        )
        lines += ['<ul class="notes">', *(f"<li>{escape(note)}</li>" for note in notes), "</ul>"] if notes else []
        return "\n".join([*lines, "</figure>"]) + "\n"

    def _best_cells(self) -> set[tuple[int, int]]:
        groups: dict[tuple[object, ...], list[int]] = {}
        for n, values in enumerate(self.values):
            if values.get("supervision") != "full" and not any(map(values.get, _LABELS)):
                groups.setdefault(tuple(values.get(key) for key in _GROUP), []).append(n)
        found = set()
        for m, column in enumerate(self.columns):
            choose = max if _HIGHER.fullmatch(column) else min if _LOWER.fullmatch(column) else None
            for group in groups.values() if choose else ():
                numbers = {n: float(match[0]) for n in group if (match := _NUMBER.match(self.rows[n][m]))}
                if choose and len(numbers) > 1:
                    found |= {(n, m) for n, number in numbers.items() if number == choose(numbers.values())}
        return found

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


def _side(is_number: bool) -> str:
    return ' class="number"' if is_number else ""
