"""The report of a paper: tables, figures, where each figure is from, environment, run times, failures."""

import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from importlib.metadata import distributions
from pathlib import Path

from medzeroseg.paper.evidence import Evidence
from medzeroseg.paper.page import Section, build_grid, build_page, embed, link
from medzeroseg.paper.plan import Paper, Run, Step
from medzeroseg.paper.progress import clock
from medzeroseg.paper.running import Attempt, cores
from medzeroseg.paper.scheduler import End, Outcome
from medzeroseg.tables import Table
from medzeroseg.tables.localisation_records import RECORD_NAME as LOCALISATION
from medzeroseg.tables.records import RANKS_NAME
from medzeroseg.tables.segmentation_records import CASES_NAME

_LOG_LINES = 20
# Start of a table's name -> the file beside a run's record that its figures are from
_SCORES = {"table1": RANKS_NAME, "table2": CASES_NAME, "table3": CASES_NAME, "localisation": LOCALISATION}


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Attributes:
        path: A PNG.
        title: For the contents.
        caption: What is shown, from which cases, and why these.
    """

    path: Path
    title: str
    caption: str


@dataclass(frozen=True)
class Content:
    """All that a report tells.

    Attributes:
        paper: The plan.
        command: What writes it, as typed.
        steps: The runs, in order.
        outcomes: What became of each.
        evidence: Of the finished ones.
        minutes: Run times of those that were timed, of all attempts that led to the finish.
        attempts: All processes there were.
        tables: Over exactly these runs.
        pictures: Figures.
        faults: What could not be built, one message each.
        logs: Run to its log; only those that are there.
        machine: This machine, by name of the property.
    """

    paper: Paper
    command: Sequence[str]
    steps: Sequence[Step]
    outcomes: Mapping[Run, Outcome]
    evidence: Mapping[Run, Evidence]
    minutes: Mapping[Run, float]
    attempts: Sequence[Attempt]
    tables: Sequence[Table]
    pictures: Sequence[Picture]
    faults: Sequence[str]
    logs: Mapping[Run, Path]
    machine: Mapping[str, str]


def build_report(content: Content, folder: Path) -> str:
    """The report as HTML.

    Args:
        content: What it tells.
        folder: Where it will be: links to files are relative to it.
    """
    done = [run for run, outcome in content.outcomes.items() if outcome.end is End.DONE]
    count = f"{len(done)} of {len(content.steps)} runs are finished"
    whole = len(done) == len(content.steps) and not content.faults
    revisions = ", ".join(sorted({one.git_revision for one in content.evidence.values()})) or "-"
    head = [f'<p class="statement">{escape(content.paper.statement)}</p>']
    head += [f'<p class="{"good" if whole else "bad"}">{count}{"." if whole else ": this report is not complete."}</p>']
    head += [f'<p class="dim">{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; code of the runs: <code>{revisions}</code>;']
    seeds = content.paper.seeds
    head += [f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}.</p>"]
    sections = [_failures(content), _tables(content, folder), _figures(content), _runs(content, folder)]
    sections += [_configurations(content), _environment(content), _again(content)]
    return build_page(content.paper.title, "\n".join(head), [section for section in sections if section is not None])


def describe_machine(gpu: str) -> dict[str, str]:
    """Processor, cores, memory, GPU and system of this machine; nothing that identifies a person.

    Args:
        gpu: Name of the accelerator, or `none`.
    """
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "Processor": model,
        "Cores that may be used": str(cores()),
        "Memory": f"{memory_gib:.1f} GiB",
        "GPU": gpu,
        "System": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    }


def _failures(content: Content) -> Section | None:
    lines = [f"<li>{escape(fault)}</li>" for fault in content.faults]
    logs = []
    for run, outcome in content.outcomes.items():
        if outcome.end is not End.DONE:
            lines.append(f"<li><strong>{escape(str(run))}</strong>: {outcome.end.value}; {escape(outcome.reason)}</li>")
            if outcome.end is End.FAILED and run in content.logs:
                text = content.logs[run].read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
                logs.append(f"<h3>End of the log of {escape(str(run))}</h3><pre>{escape(chr(10).join(text))}</pre>")
    return (
        Section("failures", "What failed or is missing", f"<ul>{''.join(lines)}</ul>{''.join(logs)}") if lines else None
    )


def _tables(content: Content, folder: Path) -> Section:
    shown = [table.to_html(_sources(table, content.evidence, folder)) for table in content.tables]
    body = (
        "<p>Each row's last column leads to the scores by case that it was computed from, and to the configuration of "
        "the run that made them. The figures headed “Published” are the publication's and were not measured here.</p>"
    )
    parts = [(table.name, table.caption.rstrip(".")) for table in content.tables]
    return Section("tables", "Tables", body + ("".join(shown) or "<p>There are none yet.</p>"), parts)


def _sources(table: Table, evidence: Mapping[Run, Evidence], folder: Path) -> list[str]:
    scores = next(name for start, name in _SCORES.items() if table.name.startswith(start))
    cells = []
    for values in table.values:
        seeds = values["seeds"]
        assert isinstance(seeds, list)
        links = []
        for seed in seeds:
            one = evidence[Run(str(values["experiment"]), seed)]
            name = f"seed {seed}" if len(seeds) > 1 else ""
            files = [link("scores", _relative(one.cases.with_name(scores), folder))]
            files.append(link("config", f"#config_{one.run.key}"))
            links.append(f"{name} {' '.join(files)}".strip())
        cells.append("; ".join(links))
    return cells


def _figures(content: Content) -> Section:
    shown, parts = [], []
    for n, picture in enumerate(content.pictures):
        parts.append((f"figure_{n}", picture.title))
        image = f'<img src="{embed(picture.path)}" alt="{escape(picture.title)}">'
        shown.append(f'<figure id="figure_{n}"><figcaption>{escape(picture.caption)}</figcaption>{image}</figure>')
    return Section("figures", "Figures", "".join(shown) or "<p>There are none yet.</p>", parts)


def _runs(content: Content, folder: Path) -> Section:
    rows = []
    for step in content.steps:
        run, outcome = step.run, content.outcomes[step.run]
        one = content.evidence.get(run)
        minutes = content.minutes.get(run)
        log = content.logs.get(run)
        rows.append(
            [
                escape(str(run)),
                f'<span class="{"good" if outcome.end is End.DONE else "bad"}">{outcome.end.value}</span>',
                "-" if minutes is None else f"{minutes:.1f}",
                str(sum(attempt.run == run for attempt in content.attempts)),
                escape(", ".join(need.experiment for need in step.needs)) or "-",
                link(one.config_hash, f"#config_{run.key}") if one else "-",
                f"<code>{escape(_short(one.git_revision))}</code>" if one else "-",
                f"{link(one.cases.name, _relative(one.cases, folder))}" if one else "-",
                f"<code>{one.cases_sha256[:16]}</code>" if one else "-",
                link("log", _relative(log, folder)) if log else "-",
            ]
        )
    total = sum(content.minutes.get(step.run, 0.0) for step in content.steps)
    untimed = [
        str(step.run) for step in content.steps if step.run in content.evidence and step.run not in content.minutes
    ]
    side = ", ".join(sorted({f"{a.jobs} side by side, threads of each: {a.threads}" for a in content.attempts})) or "-"
    text = (
        f"<p>Run times in sum: <strong>{clock(60 * total)}</strong> ({side}; training, test and start of the process; "
        "an interrupted run's parts are added). Runs side by side overlap, so that less time has passed.</p>"
    )
    text += f"<p>Not timed, since they were finished before: {escape('; '.join(untimed))}.</p>" if untimed else ""
    columns = ["Run", "State", "Minutes", "Attempts", "Needs", "Config", "Revision", "Scores by case", "SHA-256", "Log"]
    return Section("runs", "Runs and run times", text + build_grid(columns, rows, numbers=(2, 3)))


def _configurations(content: Content) -> Section:
    lines = ["<p>The resolved configuration of each run, as it ran.</p>"]
    for run, one in content.evidence.items():
        summary = f"<summary>{escape(str(run))} <code>{escape(one.config_hash)}</code></summary>"
        lines.append(f'<details id="config_{run.key}">{summary}<pre>{escape(one.config)}</pre></details>')
    return Section("configurations", "Configurations", "".join(lines))


def _environment(content: Content) -> Section:
    grid = [[escape(name), escape(value)] for name, value in content.machine.items()]
    by_values: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for run, one in content.evidence.items():
        shared = tuple((key, value) for key, value in one.environment.items() if not key.startswith("peak_memory"))
        by_values.setdefault(shared, []).append(str(run))
    body = "<h3>The machine that wrote this report</h3>" + build_grid(["Property", "Value"], grid)
    for shared, runs in by_values.items():
        body += f"<h3>Environment of {escape('; '.join(runs)) if len(by_values) > 1 else 'all runs'}</h3>"
        body += build_grid(["Name", "Value"], [[escape(key), escape(value)] for key, value in shared])
    peaks = [
        float(peak)
        for one in content.evidence.values()
        if (peak := one.environment.get("peak_memory_main_process_gib"))
    ]
    body += f"<p>Largest memory of a run's main process: {max(peaks):.2f} GiB.</p>" if peaks else ""
    packages = sorted({f"{found.metadata['Name']}=={found.version}" for found in distributions()}, key=str.lower)
    body += f"<details><summary>All {len(packages)} installed packages</summary>"
    body += f"<pre>{escape(chr(10).join(packages))}</pre></details>"
    return Section("environment", "Environment", body)


def _again(content: Content) -> Section:
    body = (
        f"<pre>{escape(shlex.join(content.command))}</pre><p>It skips what is done, goes on with what was interrupted, "
        "and runs again what a changed configuration or a retrained model touches. With the same seeds, code and "
        "machine, and as many threads for each run, the figures are the same; the SHA-256 of the scores by case tells "
        "so.</p>"
    )
    return Section("again", "How to make it again", body)


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _short(revision: str) -> str:
    return revision[:8] + ("*" if revision.endswith("-dirty") else "")
