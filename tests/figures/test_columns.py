"""Which run fills which column, and which cases are chosen."""

import math
from pathlib import Path

import pytest

from medzeroseg.errors import ConfigurationError
from medzeroseg.figures.columns import Layout, case_dsc, choose_cases, fill_columns
from medzeroseg.figures.kept_slices import KeptSlices, write_slices
from medzeroseg.tables.segmentation_records import read_segmentation_records
from tests.helpers.fake_runs import STRUCTURES, kept_slice, write_run

CASES = {"a": 0, "b": 1}
CRF = {"gscorecam": None, "evidence_prompts_crf": "saliency_crf"}


def columns(runs: Path) -> dict[str, tuple[str, str, int] | str]:
    """Role -> (experiment, method, seed), or what is wrong."""
    filled = fill_columns(Layout.load(), "phantom_acdc", read_segmentation_records(runs), runs)
    found: dict[str, tuple[str, str, int] | str] = {}
    for column in filled:
        if column.record is None or column.method is None or not column.filled:
            found[column.rule.role] = column.problem
        else:
            found[column.rule.role] = (column.record.experiment, column.method.method, column.record.seed)
    return found


def test_the_first_experiment_that_was_run_fills_a_column(tmp_path: Path) -> None:
    write_run(tmp_path, "phantom_acdc_zeroshot", CASES, methods=CRF)
    write_run(tmp_path, "phantom_acdc_infonce_zeroshot", CASES, seed=3)
    write_run(tmp_path, "samples_acdc_misnet", CASES, dataset="samples_acdc")
    write_run(tmp_path, "phantom_acdc_full", CASES, methods={"full_resunet": "full_resunet"}, keep=False)
    assert columns(tmp_path) == {
        "biomedclip": ("phantom_acdc_infonce_zeroshot", "gscorecam", 3),
        "mis_net": "not run",
        "medzeroseg": ("phantom_acdc_zeroshot", "evidence_prompts_crf", 0),
        "full": "run before slices were kept: test it again",
    }
    write_run(tmp_path, "phantom_acdc_dpfem_zeroshot", CASES, methods={"x": "saliency_dpfem_crf"}, seed=1)
    write_run(tmp_path, "phantom_acdc_infonce_zeroshot", CASES, seed=1)
    filled = columns(tmp_path)
    assert filled["medzeroseg"] == ("phantom_acdc_dpfem_zeroshot", "x", 1)
    assert filled["biomedclip"] == ("phantom_acdc_infonce_zeroshot", "gscorecam", 1)  # the same seed where there is one


def test_slices_of_another_test_are_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "phantom_acdc_zeroshot", CASES, methods=CRF)
    write_slices(KeptSlices(STRUCTURES, [kept_slice("stranger", 0, list(CRF))], 1), folder)
    with pytest.raises(ConfigurationError, match="stranger"):
        columns(tmp_path)


def test_a_cases_dsc_is_the_mean_over_its_structures(tmp_path: Path) -> None:
    write_run(tmp_path, "phantom_acdc_zeroshot", {"a": 0, "b": 2}, methods=CRF)
    [record] = read_segmentation_records(tmp_path)
    scores = case_dsc(record, "gscorecam")
    of_b = [score.dsc for score in record.scores if score.case_id == "b" and score.method == "gscorecam"]
    assert scores == {"a": 1, "b": pytest.approx(sum(of_b) / 2)}


def test_best_median_and_worst_by_score_then_name() -> None:
    scores = {"d": 0.5, "a": 0.5, "c": 0.9, "b": 0.1, "e": math.nan, "out": 1.0}
    assert choose_cases(scores, ["a", "b", "c", "d", "e"]) == {"best": "c", "median": "d", "worst": "b"}
    assert choose_cases(scores, ["b", "c"]) == {"best": "c", "worst": "b"}
    assert choose_cases(scores, ["a"]) == {"best": "a"}
    assert choose_cases(scores, ["e"]) == {}


def test_every_dataset_of_the_experiments_has_a_figure(project_root: Path) -> None:
    import yaml

    named = {dataset for datasets in Layout.load().datasets.values() for dataset in datasets}
    known = {path.stem for path in (project_root / "experiments").glob("*.yaml")}
    for path in (project_root / "experiments").glob("*_full.yaml"):
        assert yaml.safe_load(path.read_text(encoding="utf-8"))["dataset"] in named, path
    for rule in Layout.load().columns:
        for dataset in named:
            assert any(pattern.format(dataset=dataset) in known for pattern in rule.experiments), (rule.role, dataset)
