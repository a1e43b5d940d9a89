"""Table 1 from records: figures, statistics, formats, and what is refused."""

import csv
import dataclasses
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medzeroseg.errors import ConfigurationError, OutputError
from medzeroseg.files import write_atomically
from medzeroseg.tables import RunRecord, build_table1, read_records, write_table
from medzeroseg.tables.statistics import mcnemar
from medzeroseg.tables.table1 import compare_top1


def _record(experiment: str, seed: int, hits: list[bool], top1: float = 50.0, dataset: str = "phantom") -> RunRecord:
    keys = [f"{d}_top{k}{of}" for d in ("i2t", "t2i") for k in (1, 2, 5, 10) for of in ("", "_of50")]
    return RunRecord(
        experiment=experiment,
        label=experiment.upper(),
        dataset=dataset,
        published_row="biomedclip_cehnc" if experiment.endswith("cehnc") else None,
        seed=seed,
        test_pairs=len(hits),
        small_gallery=50,
        metrics=dict.fromkeys(keys, top1),
        fit_minutes=3.0,
        test_minutes=0.1,
        git_revision="0123456789abcdef-dirty",
        config_hash="cafe0123",
        environment={"torch": "2.15"},
        ranks={f"case {i}": (1, 1, 1, 1) if hit else (3, 2, 0, 2) for i, hit in enumerate(hits)},
    )


def test_mcnemar_equals_the_binomial_sum_by_hand() -> None:
    # 5 cases only the first got right, 1 only the second: p = 2 (C(6,0) + C(6,1)) / 2^6 = 14/64
    first = [True] * 5 + [False] + [True] * 10
    second = [False] * 5 + [True] + [True] * 10
    result = mcnemar(first, second)
    assert (result.only_first, result.only_second) == (5, 1)
    assert math.isclose(result.p_value, 14 / 64)
    assert mcnemar(first, first).p_value == 1.0
    with pytest.raises(ValueError, match="shorter"):
        mcnemar(first, second[:3])


def _row(records: list[RunRecord], experiment: str, gallery: str) -> dict[str, str]:
    table = build_table1(records)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    return next(row for row in rows if row["Model"] == experiment.upper() and row["Gallery"] == gallery)


def test_mean_and_sample_deviation_over_seeds() -> None:
    records = [_record("phantom_cehnc", seed, [True, False], top1) for seed, top1 in ((0, 50), (1, 54), (2, 58))]
    row = _row(records, "phantom_cehnc", "all 2")
    assert row["i→t top-1"] == "54.00 ± 4.00"
    assert row["Seeds"] == "0, 1, 2"
    assert row["p"] == "reference"
    assert row["Revision"] == "01234567*"
    published = "Published (i→t top-1, 2; t→i top-1, 2)"
    assert row[published] == "-"
    assert _row(records, "phantom_cehnc", "of 2")[published].startswith("84.66±0.25, 94.93±0.23, 86.12")


def test_rows_are_tested_against_the_cehnc_row_of_their_dataset_only() -> None:
    cehnc = _record("phantom_cehnc", 0, [True] * 12)
    other = _record("phantom_dcl", 0, [False] * 8 + [True] * 4)
    elsewhere = _record("roco_dcl", 0, [True] * 12, dataset="roco")
    records = [other, elsewhere, cehnc]
    assert _row(records, "phantom_dcl", "all 12")["p"] == "0.008 / 0.008"  # 2 / 2^8
    assert _row(records, "roco_dcl", "all 12")["p"] == "-"


def test_pairs_without_a_small_gallery_are_left_out_of_its_test() -> None:
    cehnc = _record("phantom_cehnc", 0, [True] * 12)
    other = _record("phantom_dcl", 0, [False] * 8 + [True] * 4)
    # the eight wrong pairs have small-gallery ranks 0 (not ranked) and 2
    assert [test.only_second for test in compare_top1([other], [cehnc], 2)] == [0]
    assert [test.only_second for test in compare_top1([other], [cehnc], 3)] == [8]


def test_runs_of_another_configuration_are_another_row() -> None:
    first, second = _record("phantom_cehnc", 0, [True] * 3, 10.0), _record("phantom_cehnc", 1, [True] * 3, 20.0)
    table = build_table1([first, dataclasses.replace(second, config_hash="beef4567")])
    assert sorted(row["seeds"] for row in table.values) == [[0], [0], [1], [1]]
    assert all("±" not in row[3] for row in table.rows)


def test_metrics_that_were_not_computed_leave_a_dash() -> None:
    record = _record("phantom_cehnc", 0, [True] * 3)
    fewer = {key: value for key, value in record.metrics.items() if "top5" not in key}
    assert _row([dataclasses.replace(record, metrics=fewer)], "phantom_cehnc", "all 3")["i→t top-5"] == "-"


def test_runs_on_different_cases_are_not_compared() -> None:
    assert compare_top1([_record("a_dcl", 0, [True] * 3)], [_record("a_cehnc", 0, [True] * 4)], 0) == []
    assert compare_top1([_record("a_dcl", 1, [True] * 3)], [_record("a_cehnc", 0, [True] * 3)], 0) == []


def test_four_formats_hold_the_same_figures(tmp_path: Path) -> None:
    table = build_table1([_record("phantom_cehnc", 0, [True] * 3, 12.5), _record("phantom_dcl", 0, [True] * 3, 11.0)])
    paths = {path.suffix: path.read_text(encoding="utf-8") for path in write_table(table, tmp_path / "tables")}
    rows = list(csv.reader(io.StringIO(paths[".csv"])))
    assert len(rows) == 5
    assert rows[1][3] == "12.50"
    assert paths[".md"].count("12.50") == paths[".tex"].count("12.50") == 16
    assert r"\toprule" in paths[".tex"]
    assert "→" not in paths[".tex"].partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    assert json.loads(paths[".json"])["rows"][0]["metrics"]["i2t_top1"] == [12.5]
    assert [path.name for path in (tmp_path / "tables").iterdir() if path.name.endswith(".tmp")] == []


def test_records_survive_the_disk(tmp_path: Path) -> None:
    records = [_record("phantom_cehnc", seed, [True, False, True]) for seed in (1, 0)]
    for record in records:
        record.write(tmp_path / record.experiment / f"seed_{record.seed}")
    assert read_records(tmp_path) == records[::-1]
    assert read_records(tmp_path / "phantom_cehnc") == records[::-1]


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "phantom_cehnc" / "seed_0"
    _record("phantom_cehnc", 0, [True]).write(folder)
    (folder / "retrieval.json").write_text("{")
    with pytest.raises(ConfigurationError, match="seed_0"):
        read_records(tmp_path)


def test_writing_below_a_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/table1\.md"):
        write_atomically(tmp_path / "file" / "table1.md", "x")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "table1.md"
    write_atomically(target, "old")

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OutputError, match="No space left"):
        write_atomically(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root to act as a user without rights")
def test_a_read_only_folder_is_refused_by_name() -> None:
    code = (
        "import os, sys; from pathlib import Path; from medzeroseg.files import require_writable;"
        "from medzeroseg.errors import OutputError\n"
        "os.setuid(65534)\n"
        "try: require_writable(Path('/usr/runs'))\n"
        "except OutputError as error: sys.exit(f'{error}')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "/usr/runs" in result.stderr
    assert "Permission denied" in result.stderr
