"""`medzeroseg figures` on made-up runs: files, what they say, and the same bytes twice."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medzeroseg.figures.columns import Layout, fill_columns
from medzeroseg.figures.composing import compose_figure
from medzeroseg.figures.drawing import scale_bar
from medzeroseg.main import main
from medzeroseg.tables.segmentation_records import read_segmentation_records
from tests.helpers.fake_runs import write_run

CASES = {"a": 0, "b": 3, "c": 1, "d": 2, "e": 4}
CRF = {"evidence_prompts_crf": "saliency_crf", "gscorecam": None}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    write_run(root, "phantom_acdc_zeroshot", CASES, methods=CRF, label="small model", depth=4)
    stand_in = "BiomedCLIP (stand-in: small model + InfoNCE)"
    write_run(root, "phantom_acdc_infonce_zeroshot", {"a": 5, "b": 5, "c": 5, "d": 5}, label=stand_in, depth=4)
    return root


def test_files_tell_rule_cases_models_and_what_was_not_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figures", "--runs", str(runs)]) == 0
    said = capsys.readouterr().out
    assert "figure4_phantom_acdc: without MIS-Net (not run), Full supervision (not run)" in said
    folder = runs / "figures"
    names = {"figure4_phantom_acdc", "saliency_phantom_acdc", "saliency_phantom_acdc_biomedclip"}
    assert {path.name for path in folder.iterdir()} == {
        "tensorboard",
        *(f"{name}.{suffix}" for name in names for suffix in ("png", "pdf", "json")),
    }
    values = json.loads((folder / "figure4_phantom_acdc.json").read_text(encoding="utf-8"))
    # e is missing in a column; by the DSC of the others, best to worst: a, c, d, b
    assert [(row["rank"], row["case_id"]) for row in values["cases"]] == [
        ("best", "a"),
        ("median", "d"),
        ("worst", "b"),
    ]
    assert values["cases"][0]["medzeroseg"]["dsc"] == 1
    assert values["cases"][1]["medzeroseg"]["slice_dsc"] == pytest.approx(values["cases"][1]["medzeroseg"]["dsc"])
    caption = values["caption"]
    for words in (
        "best, median and worst case by the DSC of MedZeroSeg",
        "among the 4 test cases",
        "1 cases are missing",
        "(stand-in: small model + InfoNCE)",
        "MIS-Net: not run",
        "seed 0",
    ):
        assert words in caption
    first = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert first["figure4_phantom_acdc.pdf"].startswith(b"%PDF")
    with Image.open(folder / "figure4_phantom_acdc.png") as picture:
        assert picture.width > 1500
    [events] = (folder / "tensorboard").iterdir()
    assert events.stat().st_size > 10_000
    assert main(["figures", "--runs", str(runs)]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == first
    assert len(list((folder / "tensorboard").iterdir())) == 1


def test_panels_are_those_of_their_cases(runs: Path) -> None:
    layout = Layout.load()
    columns = fill_columns(layout, "phantom_acdc", read_segmentation_records(runs), runs)
    figure = compose_figure("figure4", "phantom_acdc", columns, layout)
    assert figure is not None
    assert figure.sheet.heads[:3] == ["image", "ground truth", "BiomedCLIP (stand-in: small model + InfoNCE)"]
    assert figure.sheet.heads[4] == "MedZeroSeg\nsmall model"
    _, truth, _, nothing, ours, _ = figure.sheet.rows[2]
    assert nothing.note == "not run"
    assert ours.foot.startswith("DSC ")
    np.testing.assert_array_equal(ours.masks[0], np.roll(truth.masks[0], CASES["b"], axis=0))


def test_nothing_to_draw_says_what_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, "phantom_acdc_infonce_zeroshot", CASES)
    assert main(["figures", "--runs", str(tmp_path)]) == 2
    assert "make train EXP=phantom_acdc_zeroshot" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("width", "spacing", "expected"),
    [(256, 1.5, (100 / 1.5, "100 mm")), (256, None, (50, "50 px")), (100, 0.01, (20, "0.2 mm"))],
)
def test_scale_bar_is_round_and_about_a_quarter(width: int, spacing: float | None, expected: tuple[float, str]) -> None:
    length, words = scale_bar(width, spacing)
    assert words == expected[1]
    assert length == pytest.approx(expected[0])
    assert length <= width / 3.5
