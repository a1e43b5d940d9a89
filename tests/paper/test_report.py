"""The report: one valid file, whose figures follow from the scores by case that it leads to."""

import base64
import csv
import html
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from medzeroseg.errors import ConfigurationError
from medzeroseg.paper.building import build
from medzeroseg.paper.plan import Paper, Run, Step
from medzeroseg.paper.report import Picture
from medzeroseg.paper.running import Attempt, Times
from medzeroseg.paper.scheduler import End, Outcome
from medzeroseg.tables import RunRecord
from medzeroseg.tables.localisation_records import LocalisationRecord, StructureLocalisation
from medzeroseg.tables.segmentation_records import CaseScore, MethodResult, SegmentationRecord

VOID = {"meta", "img", "br", "hr", "link", "input"}
COMMAND = ("medzeroseg", "paper", "phantom")


class Page(HTMLParser):
    """Tags in order, closed as they should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        assert len(values) == len(attrs), (tag, attrs)
        self.tags.append(tag)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [values["href"] or ""] if "href" in values else []
        self.sources += [values["src"] or ""] if "src" in values else []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def retrieval(experiment: str, seed: int, right: int) -> RunRecord:
    ranks = {f"case_{n}": (1 if n < right else 3, 1, 1 if n < right else 2, 1) for n in range(10)}
    metrics = {f"{d}_top{k}{of}": 100.0 for d in ("i2t", "t2i") for k in (1, 2, 5, 10) for of in ("", "_of50")}
    metrics |= {"i2t_top1": 10.0 * right, "i2t_top1_of50": 10.0 * right}
    environment = {"torch": "2", "machine": "a CPU, 1 threads", "peak_memory_main_process_gib": "1.50"}
    return RunRecord(
        experiment, f"{experiment} <&>", "phantom", "biomedclip_cehnc", seed, 10, 50, metrics, 1.0, 0.5, "abc",
        "11111111", environment, ranks,
    )  # fmt: skip


def segmentation(experiment: str, row: str, scores: Sequence[float], supervision: str) -> SegmentationRecord:
    cases = [
        CaseScore("m", f"case_{n}", "liver", dsc, dsc / (2 - dsc), 0.9, 1.0, 9, 9, 10 * (1 - dsc), dsc)
        for n, dsc in enumerate(scores)
    ]
    return SegmentationRecord(
        experiment, experiment, "phantom_acdc", None, 0,
        [MethodResult("m", "Map", "-", 1.0, labels_used=supervision == "full", table3_row=row)],
        "def-dirty", "22222222", {"torch": "2", "machine": "a CPU, 1 threads"}, cases, supervision, 2.0,
    )  # fmt: skip


RECORDS: dict[Run, Any] = {
    Run("phantom_cehnc", 0): retrieval("phantom_cehnc", 0, 7),
    Run("phantom_cehnc", 1): retrieval("phantom_cehnc", 1, 9),
    Run("acdc_zeroshot", 0): segmentation("acdc_zeroshot", "saliency_crf", [0.5, 0.3, 0.7], "zero-shot"),
    Run("acdc_weak", 0): segmentation("acdc_weak", "weak_resunet", [0.6, 0.4, 0.65], "weak"),
    Run("acdc_full", 0): segmentation("acdc_full", "full_resunet", [0.9, 0.8, 0.95], "full"),
}


@pytest.fixture
def steps(tmp_path: Path) -> list[Step]:
    """Finished runs, as the tests of real ones leave them."""
    made = []
    for run, record in RECORDS.items():
        folder = tmp_path / "runs" / run.experiment / f"seed_{run.seed}"
        record.write(folder)
        if isinstance(record, RunRecord):  # a contrastive training has looked for structures, too
            found = [StructureLocalisation("test", "CT", "liver", 4, 0.8, 0.5, 0.2)]
            map_found = ("phantom", run.seed, "evidence", 4, "abc", record.config_hash, found)
            LocalisationRecord(run.experiment, record.label, *map_found).write(folder)
        settings = {"experiment": run.experiment, "note": "<b> & 'x'"}
        (folder / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        made.append(Step(run, Path("x.yaml"), folder, settings, {}))
    return made


def draw(runs: Path, folder: Path) -> tuple[list[Picture], list[str]]:
    """In place of the real drawing, which has tests of its own; it sees exactly the runs of the plan."""
    png = folder / "figure4_phantom_acdc.png"
    png.parent.mkdir(parents=True, exist_ok=True)
    png.write_bytes(b"\x89PNG not really")
    shown = sorted(path.parent.name for path in runs.glob("*/seed_*"))
    return [Picture(png, "Figure 4 & more", f"Figure 4. <{', '.join(shown)}>")], []


def write(
    steps: list[Step], tmp_path: Path, outcomes: dict[Run, Outcome] | None = None, times: Times | None = None
) -> tuple[Path, list[str]]:
    folder = tmp_path / "runs" / "paper" / "phantom"
    paper = Paper("phantom", "Phantoms & <more>", "All synthetic <here>.", (0,), True, {})
    ends = {step.run: Outcome(End.DONE) for step in steps} | (outcomes or {})
    faults = build(paper, steps, ends, times or Times(folder / "times.json"), folder, COMMAND, "none", draw)
    return folder / "report.html", faults


def test_the_page_is_valid_and_leads_nowhere_that_is_not_there(steps: list[Step], tmp_path: Path) -> None:
    report, faults = write(steps, tmp_path)
    text = report.read_text(encoding="utf-8")
    page = Page(text)
    assert faults == []
    assert text.startswith("<!DOCTYPE html>")
    assert len(page.ids) == len(set(page.ids))
    anchors = [target[1:] for target in page.links if target.startswith("#")]
    assert set(anchors) <= set(page.ids)
    assert {"tables", "table1", "table2", "table3", "table3_structures", "runs", "environment"} <= set(anchors)
    for target in page.links:
        parts = urlsplit(target)
        assert (parts.scheme, parts.netloc) == ("", "")
        assert (report.parent / parts.path).exists()
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert all(source.startswith("data:image/") for source in page.sources)
    assert "http" not in re.sub(r"<details.*", "", text, flags=re.DOTALL).split("</style>")[1]
    assert "url(" not in text
    assert "All synthetic &lt;here&gt;." in text
    assert "<here>" not in text
    assert "<more>" not in text


def test_every_row_leads_to_its_scores_and_its_configuration(steps: list[Step], tmp_path: Path) -> None:
    report, _ = write(steps, tmp_path)
    text = report.read_text(encoding="utf-8")
    table = re.search(r'<figure class="table" id="table3">.*?</figure>', text, re.DOTALL)
    assert table
    sources = re.findall(r'<td><a href="([^"]*)">scores</a> <a href="#([^"]*)">config</a></td>', table[0])
    runs = ("acdc_zeroshot", "acdc_weak", "acdc_full")
    expected = [(f"../../{run}/seed_0/segmentation_cases.csv", f"config_{run}_seed_0") for run in runs]
    assert sorted(sources) == sorted(expected)
    for _, anchor in expected:
        [config] = re.findall(rf'<details id="{anchor}">.*?<pre>(.*?)</pre>', text, re.DOTALL)
        assert yaml.safe_load(html.unescape(config))["note"] == "<b> & 'x'"
    for name in ("localisation", "localisation_structures"):
        [places] = re.findall(rf'<figure class="table" id="{name}">.*?</figure>', text, re.DOTALL)
        assert "../../phantom_cehnc/seed_1/localisation.json" in places
    one = re.search(r'<figure class="table" id="table1">.*?</figure>', text, re.DOTALL)
    assert one
    assert one[0].count("../../phantom_cehnc/seed_1/retrieval_ranks.csv") == 2  # a row for each gallery


def test_figures_can_be_computed_again_from_the_scores(steps: list[Step], tmp_path: Path) -> None:
    report, _ = write(steps, tmp_path)
    text = report.read_text(encoding="utf-8")

    def shown(name: str) -> list[dict[str, str]]:
        found = re.search(rf'<figure class="table" id="{name}">.*?</figure>', text, re.DOTALL)
        assert found
        head, *rows = Page(found[0]).rows
        return [dict(zip(head, row, strict=True)) for row in rows]

    table3 = {row["Model"]: row for row in shown("table3")}
    dsc = {}
    for name in ("acdc_zeroshot", "acdc_weak", "acdc_full"):
        with (report.parent / f"../../{name}/seed_0/segmentation_cases.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        dsc[name] = 100 * fmean(float(row["dsc"]) for row in rows)
        assert table3[name]["DSC"].startswith(f"{dsc[name]:.2f} ±")
        assert table3[name]["IoU"].startswith(f"{100 * fmean(float(row['iou']) for row in rows):.2f} ±")
        assert table3[name]["HD95"].startswith(f"{fmean(float(row['hd95']) for row in rows):.2f} ±")
    assert table3["acdc_weak"]["% of full DSC"] == f"{100 * dsc['acdc_weak'] / dsc['acdc_full']:.1f}"
    top1 = []
    for seed in (0, 1):
        with (report.parent / f"../../phantom_cehnc/seed_{seed}/retrieval_ranks.csv").open(newline="") as stream:
            ranks = [int(row["full/image_to_text"]) for row in csv.DictReader(stream)]
        top1.append(100 * sum(rank == 1 for rank in ranks) / len(ranks))
    [row, _] = shown("table1")
    assert row["i→t top-1"].startswith(f"{fmean(top1):.2f} ±")


def test_the_tables_are_over_exactly_the_runs_of_the_plan(steps: list[Step], tmp_path: Path) -> None:
    segmentation("acdc_other", "saliency_crf", [0.1, 0.2, 0.3], "zero-shot").write(tmp_path / "runs/acdc_other/seed_0")
    report, _ = write(steps, tmp_path)
    assert "acdc_other" not in report.read_text(encoding="utf-8")
    assert "acdc_other" not in (report.parent / "tables" / "table3.csv").read_text(encoding="utf-8")


def test_what_failed_is_said_first_with_the_end_of_its_log(steps: list[Step], tmp_path: Path) -> None:
    log = tmp_path / "runs" / "paper" / "phantom" / "logs" / "acdc_full_seed_0.log"
    log.parent.mkdir(parents=True)
    log.write_text("".join(f"line {n}\n" for n in range(50)) + "ValueError: <boom>\n", encoding="utf-8")
    outcomes = {
        Run("acdc_full", 0): Outcome(End.FAILED, 12.0, "exit code 1"),
        Run("acdc_weak", 0): Outcome(End.BLOCKED, 0.0, "it needs acdc_full, seed 0"),
    }
    report, _ = write(steps, tmp_path, outcomes)
    text = report.read_text(encoding="utf-8")
    page = Page(text)
    assert page.ids[0] == "failures"
    assert "3 of 5 runs are finished: this report is not complete." in text
    assert "ValueError: &lt;boom&gt;" in text
    assert "line 49\n" in text
    assert "line 10\n" not in text
    assert "it needs acdc_full, seed 0" in text
    assert "config_acdc_full_seed_0" not in page.ids  # nothing of a run that is not finished is shown as if it were


def test_run_times_and_environment(steps: list[Step], tmp_path: Path) -> None:
    times = Times(tmp_path / "times.json")
    times.add(Attempt("acdc_full", 0, "2026-01-01T00:00:00Z", 90.0, 0, False, 2, 1))
    times.add(Attempt("elsewhere", 0, "2026-01-01T00:00:00Z", 9000.0, 0, False, 2, 1))
    report, _ = write(steps, tmp_path, times=times)
    text = report.read_text(encoding="utf-8")
    rows = {row[0]: row for row in Page(text).rows if row}
    assert rows["acdc_full, seed 0"][1:4] == ["done", "1.5", "1"]
    assert rows["acdc_weak, seed 0"][1:4] == ["done", "-", "0"]
    assert "Run times in sum: <strong>1:30</strong> (2 side by side, threads of each: 1" in text
    assert "Not timed, since they were finished before: phantom_cehnc, seed 0" in text
    assert rows["GPU"] == ["GPU", "none"]
    assert rows["machine"] == ["machine", "a CPU, 1 threads"]
    assert "Largest memory of a run&#x27;s main process: 1.50 GiB" in text.replace("'", "&#x27;")
    assert "torch==" in text


def test_a_table_that_cannot_be_built_is_told_and_the_rest_is_there(steps: list[Step], tmp_path: Path) -> None:
    record = segmentation("acdc_weak", "weak_resunet", [0.6, 0.4], "weak")  # one case less than the others
    record.write(tmp_path / "runs" / "acdc_weak" / "seed_0")
    report, faults = write(steps, tmp_path)
    [fault] = faults
    assert "different cases" in fault
    text = report.read_text(encoding="utf-8")
    Page(text)
    assert html.escape(fault) in text
    assert "config_acdc_full_seed_0" in text


def test_a_damaged_record_is_an_error_that_names_it(steps: list[Step], tmp_path: Path) -> None:
    (tmp_path / "runs" / "acdc_full" / "seed_0" / "segmentation.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="acdc_full, seed 0"):
        write(steps, tmp_path)


def test_pictures_are_in_the_page_itself_and_missing_ones_are_told(steps: list[Step], tmp_path: Path) -> None:
    report, _ = write(steps, tmp_path)
    text = report.read_text(encoding="utf-8")
    [source] = Page(text).sources
    assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == b"\x89PNG not really"
    runs = "acdc_full, acdc_weak, acdc_zeroshot, phantom_cehnc, phantom_cehnc"
    assert f"<figcaption>Figure 4. &lt;{runs}&gt;</figcaption>" in text
    assert '<a href="#figure_0">Figure 4 &amp; more</a>' in text

    ends = {step.run: Outcome(End.DONE) for step in steps}
    paper = Paper("phantom", "T", "S", (0,), True, {})
    folder = report.parent
    missing = ["figure4: without MIS-Net"]
    faults = build(paper, steps, ends, Times(folder / "t"), folder, COMMAND, "none", lambda *_: ([], missing))
    assert faults == ["Figures: figure4: without MIS-Net"]
    assert "Figures: figure4: without MIS-Net" in report.read_text(encoding="utf-8")
