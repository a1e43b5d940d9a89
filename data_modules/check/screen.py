"""Shows a report on the screen."""

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from data_modules.check.findings import Finding, Report, Severity, SplitSummary

_STYLES: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "info": "dim"}
_LINES_SHOWN = 5


def show(report: Report, console: Console) -> None:
    """Print what the splits hold, the labels, the findings and the verdict."""
    console.print(Text(f"{report.dataset} at {report.root}", style="bold"))
    if report.splits:
        console.print(_split_table(report))
    if report.labels and any(sum(label.cases.values()) for label in report.labels):
        console.print(_label_table(report))
    if report.findings:
        console.print(_findings(report.findings))
    console.print(_verdict(report))


def _split_table(report: Report) -> Table:
    table = Table()
    labelled = any(split.slices is not None for split in report.splits.values())
    table.add_column("split")
    for heading in ("cases", "patients", "slices") if labelled else ("pairs",):
        table.add_column(heading, justify="right")
    table.add_column("height x width (px)")
    if labelled:
        table.add_column("spacing (mm): slices, rows, columns")
    for name, split in report.splits.items():
        counts = [split.cases, split.patients, split.slices] if labelled else [split.cases]
        row = [name, *("not named" if count is None else f"{count:,}" for count in counts), _shapes(split)]
        table.add_row(*row, *([_spacings(split)] if labelled else []))
    return table


def _label_table(report: Report) -> Table:
    table = Table()
    table.add_column("label", justify="right")
    table.add_column("structure")
    for split in report.splits:
        table.add_column(f"{split} cases", justify="right")
    table.add_column("share of the image", justify="right")
    for label in report.labels:
        cases = [f"{label.cases.get(split, 0):,}" for split in report.splits]
        table.add_row(str(label.label), label.name, *cases, f"{100 * label.share:.2f} %")
    return table


def _findings(findings: list[Finding]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")  # a path is never cut short
    for finding in findings:
        message = Text(finding.message)
        message.append(f"  [{finding.code}]", style="dim")
        lines = list(finding.details) or ([_named(finding)] if finding.case_ids else [])
        shown = Table.grid(padding=(0, 1, 0, 0))
        shown.add_column(no_wrap=True)
        shown.add_column(overflow="fold")
        for line in lines[:_LINES_SHOWN]:
            shown.add_row("-", Text(line))
        more = len(lines) - _LINES_SHOWN
        if more > 0:
            shown.add_row("", Text(f"and {more:,} more (all of them: --json PATH)", style="dim"))
        grid.add_row(Text(finding.severity.upper(), style=_STYLES[finding.severity]), Group(message, shown))
    return grid


def _named(finding: Finding) -> str:
    named = ", ".join(finding.case_ids[:_LINES_SHOWN])
    more = len(finding.case_ids) - _LINES_SHOWN
    return named + (f" and {more:,} more (all of them: --json PATH)" if more > 0 else "")


def _verdict(report: Report) -> Text:
    errors, warnings = report.count("error"), report.count("warning")
    counts = f"{errors:,} error{'s' * (errors != 1)}, {warnings:,} warning{'s' * (warnings != 1)}"
    if errors:
        text = Text(f"Not ready: {counts}.", style="bold red")
    else:
        text = Text(f"Ready to train: {counts}.", style="bold green")
    cases = sum(split.cases for split in report.splits.values())
    read = f" Read {cases:,} cases ({report.bytes_read / 1e6:,.1f} MB) in {report.wall_s:.1f} s, "
    threads = f"{report.workers} thread{'s' * (report.workers != 1)}."
    text.append(read + threads, style="not bold default")
    return text


def _shapes(split: SplitSummary) -> str:
    shown = [f"{height} x {width}" for height, width in list(split.shapes)[:2]]
    more = len(split.shapes) - len(shown)
    return ", ".join(shown) + (f" and {more:,} other sizes" if more else "")


def _spacings(split: SplitSummary) -> str:
    if split.spacings_mm is None:
        return "not known"
    low, high = split.spacings_mm
    return ", ".join(f"{a:.4g}" if abs(a - b) < 1e-3 else f"{a:.4g} to {b:.4g}" for a, b in zip(low, high, strict=True))
