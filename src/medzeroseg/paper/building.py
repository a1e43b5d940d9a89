"""Tables, figures and the report of a paper, from what its finished runs have left."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from medzeroseg.errors import ConfigurationError
from medzeroseg.files import write_atomically
from medzeroseg.paper.evidence import gather, read_evidence, write_index
from medzeroseg.paper.plan import Paper, Run, Step
from medzeroseg.paper.report import Content, Picture, build_report, describe_machine
from medzeroseg.paper.running import Times
from medzeroseg.paper.scheduler import End, Outcome
from medzeroseg.tables import Table, build_tables, write_table

Draw = Callable[[Path, Path], tuple[list[Picture], list[str]]]
"""From a folder of runs and one to write to, to the figures that were drawn and what is missing in them."""


def build(
    paper: Paper,
    steps: Sequence[Step],
    outcomes: Mapping[Run, Outcome],
    times: Times,
    folder: Path,
    command: Sequence[str],
    accelerator: str,
    draw: Draw,
) -> list[str]:
    """Write `tables/`, `figures/`, `index.json` and `report.html`.

    Args:
        paper: The plan.
        steps: Its runs.
        outcomes: What became of each.
        times: Their run times.
        folder: Where to.
        command: What makes the report, as typed.
        accelerator: The GPU's name, or `none`.
        draw: Draws the figures.

    Returns:
        What could not be built, one message each; the report tells it, too.

    Raises:
        ConfigurationError: A record is damaged.
        OutputError: The folder cannot be written to.
    """
    done = [step for step in steps if outcomes[step.run].end is End.DONE]
    evidence = {step.run: read_evidence(step) for step in done}
    view = gather(done, folder / "runs")
    for made in ("tables", "figures"):  # nothing of an earlier report stays beside this one
        shutil.rmtree(folder / made, ignore_errors=True)
    faults: list[str] = []
    tables: list[Table] = []
    pictures: list[Picture] = []
    try:
        tables = build_tables(view)
    except ConfigurationError as error:
        faults.append(f"Tables: {error}")
    for table in tables:
        write_table(table, folder / "tables")
    try:
        pictures, missing = draw(view, folder / "figures")
        faults += [f"Figures: {line}" for line in missing]
    except ConfigurationError as error:
        faults.append(f"Figures: {error}")
    content = Content(
        paper=paper,
        command=command,
        steps=steps,
        outcomes=outcomes,
        evidence=evidence,
        minutes=times.minutes(),
        attempts=[attempt for attempt in times.attempts if attempt.run in outcomes],
        tables=tables,
        pictures=pictures,
        faults=faults,
        logs={step.run: log for step in steps if (log := folder / "logs" / f"{step.run.key}.log").is_file()},
        machine=describe_machine(accelerator),
    )
    write_index(list(evidence.values()), folder / "index.json")
    write_atomically(folder / "report.html", build_report(content, folder))
    return faults
