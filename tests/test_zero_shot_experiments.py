"""Every zero-shot experiment runs through `main()` on generated data and leaves its table, picture and figures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from medzeroseg.figures import read_slices
from medzeroseg.main import main
from medzeroseg.tables import read_segmentation_records
from tests.helpers.fake_zero_shot import FEW, MODEL, few_rows, write_zero_shot_inputs, zero_shot_overrides

FOLDER = Path(__file__).parent.parent / "experiments"
EXPERIMENTS = sorted(path.stem for path in FOLDER.glob("*_zeroshot.yaml"))
# of the others, volumes above all, a few rows: every file of rows and every model is met here
WITH_THEIR_ROWS = (
    *("phantom_covid_qu_ex_zeroshot", "samples_sunnybrook_zeroshot", "covid_qu_ex_biomedclip_zeroshot"),
    "samples_sunnybrook_infonce_zeroshot",
    *("phantom_covid_qu_ex_dpfem_zeroshot", "covid_qu_ex_dpfem_zeroshot", "covid_qu_ex_zeroshot"),
)
EVIDENCE = (
    *("evidence", "evidence_walker", "evidence_prompts", "evidence_fine"),
    *("evidence_prompts_crf", "evidence_prompts_walker"),
)
EVIDENCE_DPFEM = (
    *("evidence_dpfem", "evidence_dpfem_prompts", "evidence_dpfem_fine"),
    *("evidence_dpfem_prompts_crf", "evidence_dpfem_prompts_guided_crf"),
)
CHOSEN = (  # by masks of validation cases, docs/localisation.md
    *("evidence_fine", "evidence_prompts_crf", "evidence_dpfem_fine", "evidence_dpfem_prompts_crf"),
    "evidence_dpfem_prompts_guided_crf",
)
DPFEM = ("saliency_dpfem_crf_sam", "dpfem", "dpfem_crf", "gscorecam_dpfem_crf")
SAM = ("gscorecam_sam", "saliency_crf_sam", "patch_text_sam", "patch_text_medsam")
SLOW = ("scorecam", "m2ib")
ROWS = (
    *("gscorecam", "gradcam", "gradcam_plus_plus", "layercam", "patch_text"),
    *("patch_text_crf", "patch_text_walker", "gscorecam_crf", "fixed_box", "random_map"),
)
BASELINES = ["fixed_box", "random_map"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_zero_shot_inputs(tmp_path_factory.mktemp("zero_shot"), FOLDER.parent)


@pytest.fixture(autouse=True)
def at_home(inputs: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project_root)
    monkeypatch.setenv("DATA_ROOT", str(inputs / "data"))
    monkeypatch.setenv("REAL_SAMPLES", str(inputs / "samples"))
    for name in ("SAM_MODEL", "MEDSAM_MODEL"):
        monkeypatch.setenv(name, str(inputs / "sam"))


def run(experiment: str, inputs: Path, runs: Path, extra: Sequence[str] = ()) -> int:
    return main(["train", experiment, "--", *zero_shot_overrides(experiment, inputs, runs), *extra])


def test_there_is_a_row_for_every_dataset_and_model_of_table2() -> None:
    datasets = ("acdc", "synapse", "covid_qu_ex")
    expected = {f"{dataset}{model}_zeroshot" for dataset in datasets for model in ("", "_biomedclip", "_dpfem")}
    of_phantoms = {f"phantom_{dataset}" for dataset in datasets}
    of_samples = {f"samples_{name}" for name in ("acdc", "covid_qu_ex", "sunnybrook")}
    expected |= {f"{name}{model}_zeroshot" for name in of_phantoms | of_samples for model in ("", "_infonce", "_dpfem")}
    expected |= {"samples_ct_zeroshot"}
    assert expected == set(EXPERIMENTS)


@pytest.mark.parametrize(
    "experiment",
    # its volumes take long to draw; the phantom's CT has fast tests of its own
    [pytest.param(name, marks=pytest.mark.slow if "phantom_synapse" in name else ()) for name in EXPERIMENTS],
)
def test_experiment_segments_and_writes_table2(experiment: str, inputs: Path, tmp_path: Path) -> None:
    whole = experiment in WITH_THEIR_ROWS
    assert run(experiment, inputs, tmp_path, [] if whole else [few_rows(inputs)]) == 0
    [record] = read_segmentation_records(tmp_path)
    assert (record.experiment, record.seed) == (experiment, 0)
    methods = {method.method: method for method in record.methods}
    small = experiment.startswith(("phantom_", "samples_"))
    with_dpfem = experiment.endswith("_dpfem_zeroshot")
    tuned = DPFEM if with_dpfem else (*SAM, *SLOW)
    of_biomedclip = SLOW if experiment.endswith("_biomedclip_zeroshot") else tuned
    own = (EVIDENCE_DPFEM if with_dpfem else EVIDENCE) if small else of_biomedclip
    stand_in = experiment.endswith("_infonce_zeroshot")
    rows_of_file = ["gscorecam", "gradcam", *BASELINES] if stand_in else [*own, *ROWS]
    assert list(methods) == (rows_of_file if whole else list(FEW))
    assert ("(stand-in" in record.label) == stand_in
    in_table3 = {method.method: method.table3_row for method in record.methods if method.table3_row}
    if whole and not stand_in:
        part = "_dpfem" if with_dpfem else ""
        row = f"evidence{part}_prompts_crf" if small else f"gscorecam{part}_crf"
        with_sam = f"saliency{part}_crf_sam"
        assert in_table3 == {row: f"saliency{part}_crf"} | ({with_sam: with_sam} if with_sam in own else {})
    assert [name for name, method in methods.items() if method.baseline] == BASELINES
    assert all(method.minutes > 0 for method in methods.values())
    assert all(method.layer != "-" for method in methods.values() if not method.baseline)
    structures = {score.structure for score in record.scores}
    cases = {score.case_id for score in record.scores}
    assert len(record.scores) == len(methods) * len(structures) * len(cases) > 0
    tables = tmp_path / experiment / "tables"
    rows = read_json(tables / "table2.json")["rows"]
    assert [row["method"] for row in rows] == list(methods)
    assert not any(row["labels_used"] or row["reveals_ground_truth"] for row in rows)
    assert {row["method"] for row in rows if row["chosen_on_validation"]} == set(methods).intersection(CHOSEN)
    written = yaml.safe_load((FOLDER / f"{experiment}.yaml").read_text(encoding="utf-8"))
    of_method = {row["method"]: row["published"] for row in rows}
    assert (of_method["gscorecam"] is not None) == (written["published_row"] is not None)
    assert (tables / "table2_structures.md").is_file()
    folder = tmp_path / experiment / "seed_0"
    kept = read_slices(folder)
    assert kept is not None
    assert {one.case_id for one in kept.slices} == cases
    assert all(list(one.masks) == list(one.maps) == list(methods) for one in kept.slices)
    with Image.open(folder / "segmentation_sheet.png") as sheet:
        assert sheet.width > 300
    answers = {row["method"]: row["correlation"] for row in read_json(folder / "text_sensitivity.json")["rows"]}
    assert answers["fixed_box"] == pytest.approx(1)  # it reads no text, and the figure says so
    assert all(value < 0.999999 for name, value in answers.items() if name != "fixed_box")


def read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_rows_with_dpfem_need_a_model_with_dpfem(
    inputs: Path,
    tmp_path: Path,
    project_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = f"{MODEL}methods=experiments/parts/zeroshot_methods_dpfem.yaml"
    assert run("covid_qu_ex_biomedclip_zeroshot", inputs, tmp_path, [rows]) == 2
    message = capsys.readouterr().err
    assert "methods: dpfem: model has no DPFEM" in message
    assert "zeroshot_methods.yaml fits every model" in message
    with_dpfem = f"{MODEL}model.init_args.dpfem=medzeroseg.models.DPFEM"
    assert run("covid_qu_ex_biomedclip_zeroshot", inputs, tmp_path, [rows, with_dpfem]) == 0
    [record] = read_segmentation_records(tmp_path)
    assert [m.method for m in record.methods][:4] == ["dpfem", "dpfem_crf", "gscorecam_dpfem_crf", "gscorecam"]


def test_a_missing_folder_of_sam_is_told(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAM_MODEL", str(tmp_path / "nowhere"))
    assert run("covid_qu_ex_zeroshot", inputs, tmp_path) == 2
    assert "nowhere: there is no such folder" in capsys.readouterr().err


def test_seeds_share_a_row_and_another_training_makes_another(inputs: Path, tmp_path: Path) -> None:
    name = "samples_sunnybrook_zeroshot"
    words = [*zero_shot_overrides(name, inputs, tmp_path), few_rows(inputs)]
    content = torch.load(inputs / "small.ckpt", weights_only=True)
    for seed, config in ((0, content["config"]), (1, content["config"]), (2, {"model": "trained otherwise"})):
        checkpoint = tmp_path / "real_samples_cehnc" / f"seed_{seed}" / "checkpoints" / "best.ckpt"
        checkpoint.unlink(missing_ok=True)
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content | {"config": config}, checkpoint)
    assert main(["train", name, "--seeds", "0", "1", "2", "--", *words]) == 0
    rows = read_json(tmp_path / name / "tables" / "table2.json")["rows"]
    assert sorted(row["seeds"] for row in rows if row["method"] == "gscorecam") == [[0, 1], [2]]


def test_a_missing_checkpoint_says_so(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = f"{MODEL}checkpoint={tmp_path / 'none.ckpt'}"
    assert run("samples_sunnybrook_zeroshot", inputs, tmp_path, [nowhere]) == 2
    assert "No checkpoint at" in capsys.readouterr().err


def test_a_row_that_is_not_understood_is_named(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = f"{MODEL}methods.init_args.rows={{mine: {{saliency: medzeroseg.saliency.GradCAM, pints: 1}}}}"
    assert run("samples_sunnybrook_zeroshot", inputs, tmp_path, [wrong]) == 2
    message = capsys.readouterr().err
    assert "methods: mine" in message
    assert "pints" in message
