"""Table 3: rows, spreads over cases and seeds, tests against full supervision, units, published figures."""

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest
import yaml
from scipy import stats

from medzeroseg.callbacks import SegmentationTable
from medzeroseg.errors import ConfigurationError
from medzeroseg.tables import build_table3, build_table3_structures, build_tables, table3, write_table
from medzeroseg.tables.segmentation_records import (
    CASES_NAME,
    PUBLISHED_ON,
    CaseScore,
    MethodResult,
    SegmentationRecord,
    read_segmentation_records,
)
from medzeroseg.tables.writer import Table

FULL = {"a": 0.9, "b": 0.8, "c": 0.95, "d": 0.85}
ZERO_SHOT = {"a": 0.5, "b": 0.45, "c": 0.6, "d": 0.3}


def scores(dsc: dict[str, float], unit: str = "mm") -> list[CaseScore]:
    liver = [
        CaseScore("m", case, "liver", value, value / (2 - value), 0.9, 0.9, 50, 40, 10 * (1 - value), value, unit)
        for case, value in dsc.items()
    ]
    absent = CaseScore("m", "a", "spleen", math.nan, math.nan, math.nan, math.nan, 0, 0, unit=unit)
    missed = CaseScore("m", "b", "spleen", 0.0, 0.0, 0.5, 0.0, 9, 0, 100.0, 0.0, unit)
    return [*liver, absent, missed]


def record(row: str | None, dsc: dict[str, float], seed: int = 0, unit: str = "mm") -> SegmentationRecord:
    method = MethodResult("m", "gScoreCAM", "-", 1.0, table3_row=row)
    return SegmentationRecord(
        experiment=f"synapse_{row}",
        label="MedZeroSeg",
        dataset="synapse",
        published_row="synapse/medzeroseg",
        seed=seed,
        methods=[method, MethodResult("other", "Grad-CAM", "-", 1.0)],
        git_revision="abc",
        config_hash="12345678",
        environment={"torch": "2"},
        scores=scores(dsc, unit),
        supervision="full" if row == "full_resunet" else "zero-shot",
        nsd_tolerance=2.0,
    )


def cells(table: Table, row: int) -> dict[str, str]:
    return dict(zip(table.columns, table.rows[row], strict=True))


def test_a_zero_shot_row_of_more_cases_is_compared_on_those_of_full_supervision() -> None:
    more = record("saliency_crf", ZERO_SHOT | {"e": 0.0, "f": 1.0})
    same, table = (
        build_table3([record("full_resunet", FULL), row]) for row in (record("saliency_crf", ZERO_SHOT), more)
    )
    assert cells(table, 0)["Cases"] == "4 of 6"
    assert table.values[0]["cases_left_out"] == 2
    left = ("Cases",)
    assert {k: v for k, v in cells(table, 0).items() if k not in left} == {
        k: v for k, v in cells(same, 0).items() if k not in left
    }
    structures = build_table3_structures([record("full_resunet", FULL), more])
    assert cells(structures, 0)["Cases"] == "4"


def test_a_phantoms_row_names_the_real_dataset_of_the_published_figures() -> None:
    phantom = replace(record("full_resunet", FULL), dataset="phantom_acdc", published_row="acdc/full_supervision")
    [row] = build_table3([phantom]).rows
    assert "ACDC: 52.88±7.39, 67.06±6.48, 84.38±7.65" in row
    for name in ("published_table2.yaml", "published_table3.yaml"):
        figures = yaml.safe_load(Path(table3.__file__).with_name(name).read_text(encoding="utf-8"))
        assert {key.partition("/")[0] for key in figures} == PUBLISHED_ON.keys()


def test_the_notes_do_not_say_that_a_zero_shot_model_has_seen_nothing_of_the_dataset() -> None:
    [note] = [note for note in build_table3([]).notes if note.startswith("Cases:")]
    assert "tested on no case that its model was trained on" in note  # of real samples' patients, some taught captions
    assert "trained on no case of" not in note


def test_a_choice_by_validation_labels_is_said() -> None:
    before = record("weak_resunet", ZERO_SHOT)
    methods = [replace(method, chosen_on_validation=True) for method in before.methods]
    table = build_table3([record("full_resunet", FULL), replace(before, methods=methods)])
    assert [cells(table, n)["Labels used"] for n in (0, 1)] == ["to choose it (validation)", "no"]
    assert [row["chosen_on_validation"] for row in table.values] == [True, False]


def test_a_trained_row_of_more_cases_is_an_error() -> None:
    weak = replace(record("weak_resunet", ZERO_SHOT | {"e": 0.1}), supervision="weak")
    with pytest.raises(ConfigurationError, match=r"different cases.*lacks e"):
        build_table3([record("full_resunet", FULL), weak])


def test_rows_are_in_the_tables_order_and_tested_against_full_supervision() -> None:
    table = build_table3([record("full_resunet", FULL), record("saliency_crf", ZERO_SHOT)])
    assert [row[1] for row in table.rows] == ["saliency + CRF", "full supervision, ResUNet"]
    # b's spleen is missed: its score is half its liver's
    ours, full = [50, 22.5, 60, 30], [90, 40, 95, 85]
    first, last = cells(table, 0), cells(table, 1)
    values: dict[str, Any] = table.values[0]
    expected = stats.ttest_rel(ours, full).pvalue
    assert values["tests"]["dsc"]["t_p"] == pytest.approx(expected)
    assert values["tests"]["dsc"]["wilcoxon_p"] == pytest.approx(2 / 16)
    assert values["tests"]["dsc"]["pairs"] == 4
    assert first["DSC"] == f"{sum(ours) / 4:.2f} ± {stdev(ours):.2f}*"
    assert 0.01 < expected < 0.05
    assert first["% of full DSC"] == f"{100 * sum(ours) / sum(full):.1f}"
    assert first["Difference of DSC [95 %]"].startswith(f"{(sum(ours) - sum(full)) / 4:+.2f} [")
    hd95 = [5, (5.5 + 100) / 2, 4, 7]
    assert first["HD95"] == f"{sum(hd95) / 4:.2f} ± {stdev(hd95):.2f}* mm"
    assert 0.01 < stats.ttest_rel(hd95, [1, (2 + 100) / 2, 0.5, 1.5]).pvalue < 0.05
    assert first["NSD tolerance"] == "2 mm"
    assert (first["Cases"], first["Both empty"], first["One empty"]) == ("4", "1", "1")
    assert first["Published (IoU, DSC, AUC)"] == "Synapse: 38.71±5.37, 52.84±5.87, 75.52±6.39"
    assert last["p of DSC: t, Wilcoxon"] == "reference"
    assert "*" not in last["DSC"]


def test_spread_over_seeds_is_apart_from_that_over_cases() -> None:
    better = {case: value + 0.1 for case, value in ZERO_SHOT.items()}
    table = build_table3([record("saliency_crf", better, 1), record("saliency_crf", ZERO_SHOT, 0)])
    [values] = table.values
    assert isinstance(values["metrics"], dict)
    means = [100 * sum(seed) / 4 for seed in ([0.5, 0.225, 0.6, 0.3], [0.6, 0.275, 0.7, 0.4])]
    of_cases = [55, 25, 65, 35]
    assert values["metrics"]["dsc"] == {
        "mean": pytest.approx(sum(means) / 2),
        "std_cases": pytest.approx(stdev(of_cases)),
        "std_seeds": pytest.approx(stdev(means)),
    }
    assert cells(table, 0)["DSC"].endswith(f"(± {stdev(means):.2f})")


def test_a_row_without_a_partner_has_no_test() -> None:
    row = cells(build_table3([record("saliency_crf", ZERO_SHOT)]), 0)
    assert (row["p of DSC: t, Wilcoxon"], row["Difference of DSC [95 %]"], row["% of full DSC"]) == ("-", "-", "-")


def test_rows_with_different_cases_are_refused_by_name() -> None:
    fewer = {case: value for case, value in ZERO_SHOT.items() if case != "d"}
    with pytest.raises(ConfigurationError, match=r"synapse_saliency_crf \(saliency \+ CRF\) lacks d"):
        build_table3([record("full_resunet", FULL), record("saliency_crf", fewer)])


@pytest.mark.parametrize("build", [build_table3, build_table3_structures])
def test_a_case_that_a_seed_lacks_is_an_error_that_names_row_seed_and_case(
    build: Callable[[list[SegmentationRecord]], Table],
) -> None:
    fewer = {case: value for case, value in ZERO_SHOT.items() if case != "d"}
    seeds = [record("saliency_crf", ZERO_SHOT, 0), record("saliency_crf", fewer, 3)]
    with pytest.raises(ConfigurationError, match=r"synapse_saliency_crf \(saliency \+ CRF\).* seed 3 lacks d\."):
        build(seeds)


def test_a_case_that_a_seed_lacks_is_an_error_beyond_the_cases_of_full_supervision_too() -> None:
    seeds = [record("saliency_crf", ZERO_SHOT | {"e": 0.1}, 0), record("saliency_crf", ZERO_SHOT, 1)]
    with pytest.raises(ConfigurationError, match=r"seed 1 lacks e\."):
        build_table3([record("full_resunet", FULL), *seeds])


def test_distances_without_spacing_are_in_pixels_and_never_mixed() -> None:
    in_pixels = record("saliency_crf", ZERO_SHOT, unit="px")
    table = build_table3([in_pixels, record("full_resunet", FULL)])
    assert cells(table, 0)["HD95"].endswith(" px")
    values: dict[str, Any] = table.values[0]
    assert values["tests"]["hd95"] is None  # pixels are not tested against mm
    mixed = replace(in_pixels, scores=[*in_pixels.scores[:3], *record("saliency_crf", ZERO_SHOT).scores[3:]])
    assert cells(build_table3([mixed]), 0)["HD95"] == "mixed units"


def test_structures_are_compared_where_they_are() -> None:
    table = build_table3_structures([record("full_resunet", FULL), record("saliency_crf", ZERO_SHOT)])
    rows = {(row[1], row[3]): dict(zip(table.columns, row, strict=True)) for row in table.rows}
    liver = rows["saliency + CRF", "liver"]
    assert liver["DSC"].startswith("46.25 ± 12.50")
    assert liver["DSC"].count("*") == len(
        [level for level in (0.05, 0.01, 0.001) if stats.ttest_rel([50, 45, 60, 30], [90, 80, 95, 85]).pvalue < level]
    )
    assert (liver["Cases"], rows["saliency + CRF", "spleen"]["Cases"]) == ("4", "1")


def test_only_methods_with_a_row_are_in_it_and_all_forms_are_written(tmp_path: Path) -> None:
    assert build_table3([record(None, ZERO_SHOT)]).rows == []
    record("full_resunet", FULL).write(tmp_path / "runs" / "full" / "seed_0")
    record("saliency_crf", ZERO_SHOT).write(tmp_path / "runs" / "zero" / "seed_0")
    tables = build_tables(tmp_path / "runs")
    assert [table.name for table in tables] == ["table2", "table2_structures", "table3", "table3_structures"]
    for table in tables:
        assert all(path.stat().st_size for path in write_table(table, tmp_path))
        json.loads((tmp_path / f"{table.name}.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)


def test_a_record_keeps_what_table3_needs_and_an_old_one_still_reads(tmp_path: Path) -> None:
    written = record("saliency_crf", ZERO_SHOT)
    written.write(tmp_path / "seed_0")
    assert repr(read_segmentation_records(tmp_path)) == repr([written])
    cases = tmp_path / "seed_0" / CASES_NAME
    with cases.open(encoding="utf-8", newline="") as stream:
        rows = [row[:9] for row in csv.reader(stream)]
    with cases.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    [old] = read_segmentation_records(tmp_path)
    assert all(math.isnan(score.hd95) for score in old.scores)
    assert cells(build_table3([old]), 0)["HD95"] == "-"


def test_unknown_rows_and_supervision_are_refused() -> None:
    with pytest.raises(ValueError, match="no row of Table 3"):
        SegmentationTable("e", "l", "d", table3_rows={"gradcam": "nothing"})
    with pytest.raises(ValueError, match="supervision"):
        SegmentationTable("e", "l", "d", supervision="half")
