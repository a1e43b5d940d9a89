"""Records of segmentation runs, and Table 2 built from them."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from medzeroseg.errors import ConfigurationError
from medzeroseg.tables.segmentation_records import (
    CASES_NAME,
    RECORD_NAME,
    CaseScore,
    MethodResult,
    SegmentationRecord,
    read_segmentation_records,
)
from medzeroseg.tables.table2 import build_structure_table, build_table2
from medzeroseg.tables.writer import Table, write_table

NAN = math.nan


def score(case_id: str, structure: str, dsc: float, size: int, found: int, method: str = "gradcam") -> CaseScore:
    auc = 0.75 if size else NAN
    return CaseScore(method, case_id, structure, dsc, dsc / (2 - dsc), auc, auc, size, found)


SCORES = [
    score("a", "liver", 0.8, 10, 12),
    score("a", "spleen", 0.4, 5, 5),
    score("b", "liver", 0.5, 10, 9),
    score("b", "spleen", NAN, 0, 0),  # rightly not found
    score("c", "liver", 0.3, 4, 4),
    score("c", "spleen", 0.0, 0, 7),  # found although absent
]


def record(seed: int = 0, scores: list[CaseScore] | None = None) -> SegmentationRecord:
    method = MethodResult("gradcam", "Grad-CAM", "blocks.10", 1.5)
    box = MethodResult("box", "fixed box", "-", 0.1, baseline=True)
    found = SCORES if scores is None else scores
    return SegmentationRecord(
        experiment="synapse_zeroshot",
        label="MedZeroSeg",
        dataset="synapse",
        published_row="synapse/medzeroseg",
        seed=seed,
        methods=[method, box],
        git_revision="abc",
        config_hash="12345678",
        environment={"torch": "2"},
        scores=[*found, *(replace(item, method="box", dsc=0.1) for item in found)],
    )


def test_record_survives_writing(tmp_path: Path) -> None:
    record().write(tmp_path / "seed_0")
    [read] = read_segmentation_records(tmp_path)
    assert read.methods == record().methods
    assert repr(read) == repr(record())
    # NaN is not equal to itself
    assert [repr(item) for item in read.scores] == [repr(item) for item in record().scores]


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    record().write(tmp_path / "seed_0")
    (tmp_path / "seed_0" / CASES_NAME).write_text("method,case_id\n1,2\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="seed_0"):
        read_segmentation_records(tmp_path)


def test_row_is_the_mean_over_cases_of_the_mean_over_structures() -> None:
    table = build_table2([record()])
    cells = dict(zip(table.columns, table.rows[0], strict=True))
    # a: (0.8 + 0.4) / 2, b: 0.5 alone, c: (0.3 + 0) / 2
    assert cells["DSC"] == "41.67 ± 23.63"
    assert cells["DSC, present"] == "46.67 ± 15.28"
    assert (cells["Cases"], cells["Absent, left empty"], cells["Absent, found"]) == ("3", "1", "1")
    assert cells["Labels used"] == "no"
    assert cells["Layer"] == "blocks.10"
    assert cells["AUC"] == "75.00 ± 0.00"
    assert cells["Published (IoU, DSC, AUC; time)"] == "Synapse: 27.05±6.56, 32.88±6.17, 77.79±5.01; 19.9 min"
    baseline = dict(zip(table.columns, table.rows[1], strict=True))
    assert baseline["Saliency"] == "fixed box (baseline)"
    assert baseline["Published (IoU, DSC, AUC; time)"] == "-"


def test_seeds_are_averaged_case_by_case() -> None:
    other = [replace(item, dsc=item.dsc + 0.1) for item in SCORES]
    table = build_table2([record(1, other), record(0)])
    [row, _] = table.values
    alone = build_table2([record()]).values[0]
    assert row["seeds"] == [0, 1]
    assert row["cases"] == 3
    assert isinstance(row["metrics"], dict)
    assert isinstance(alone["metrics"], dict)
    assert row["metrics"]["dsc"]["mean"] == pytest.approx(alone["metrics"]["dsc"]["mean"] + 5)
    assert row["absent_found"] == 1
    # means of 41.67 and 51.67 %, and by structure of 53.33 and 63.33 %: sample standard deviation 10 / sqrt(2)
    assert row["metrics"]["dsc"]["std_seeds"] == pytest.approx(7.0711, abs=1e-4)
    assert table.rows[0][4] == "46.67 ± 23.63 (± 7.07)"
    assert alone["metrics"]["dsc"]["std_seeds"] is None
    [liver, *_] = build_structure_table([record(1, other), record(0)]).rows
    assert liver[5] == "58.33 ± 25.17 (± 7.07)"


@pytest.mark.parametrize("build", [build_table2, build_structure_table])
def test_a_case_that_a_seed_lacks_is_an_error_that_names_row_seed_and_case(
    build: Callable[[list[SegmentationRecord]], Table],
) -> None:
    fewer = [item for item in SCORES if item.case_id != "c"]
    with pytest.raises(ConfigurationError, match=r"synapse_zeroshot \(Grad-CAM\).* seed 2 lacks c\."):
        build([record(1), record(2, fewer)])


def test_a_run_with_other_settings_is_another_row() -> None:
    assert len(build_table2([record(), replace(record(1), config_hash="87654321")]).rows) == 4


def test_a_prompt_that_reveals_the_ground_truth_is_marked() -> None:
    method = MethodResult("gradcam", "Grad-CAM", "x", 1.0, labels_used=True, reveals_ground_truth=True)
    [row] = build_table2([replace(record(), methods=[method])]).rows
    assert "yes, prompts reveal ground truth" in row


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        ({}, "no"),
        ({"chosen_on_validation": True}, "to choose it (validation)"),
        ({"chosen_on_validation": True, "labels_used": True}, "yes"),
    ],
)
def test_a_choice_by_validation_labels_is_said(marks: dict[str, bool], words: str) -> None:
    table = build_table2([replace(record(), methods=[MethodResult("gradcam", "Grad-CAM", "x", 1.0, **marks)])])
    assert table.rows[0][table.columns.index("Labels used")] == words
    chosen = marks.get("chosen_on_validation", False)
    assert table.values[0]["chosen_on_validation"] == chosen
    assert build_structure_table([record()]).values[0]["chosen_on_validation"] is False


def test_a_record_from_before_choices_were_said_is_read(tmp_path: Path) -> None:
    record().write(tmp_path / "seed_0")
    path = tmp_path / "seed_0" / RECORD_NAME
    content = json.loads(path.read_text(encoding="utf-8"))
    for method in content["methods"]:
        del method["chosen_on_validation"]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert read_segmentation_records(tmp_path)[0].methods == record().methods


def test_structures_are_scored_where_they_are() -> None:
    table = build_structure_table([record()])
    rows = {(row[2], row[3]): row for row in table.rows}
    assert rows["Grad-CAM", "liver"][5] == "53.33 ± 25.17"
    assert rows["Grad-CAM", "spleen"][5] == "40.00"
    assert rows["Grad-CAM", "spleen"][-2] == "1"


def test_all_forms_are_written(tmp_path: Path) -> None:
    for table in (build_table2([record()]), build_structure_table([record()])):
        paths = write_table(table, tmp_path)
        assert all(path.stat().st_size for path in paths)
        # strict JSON: no NaN
        json.loads((tmp_path / f"{table.name}.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)


def test_no_record_makes_no_row() -> None:
    assert build_table2([]).rows == build_structure_table([]).rows == []
