"""The phantom in ROCO's layout: its files, its pairs, equal bytes for a seed, its command."""

import argparse
import csv
import hashlib
import io
import json
import multiprocessing
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_modules.phantom import add_phantom_arguments, generate_roco, run_phantom
from data_modules.phantom.command import make_layout
from data_modules.phantom.items import MODALITIES, ItemPlace
from medzeroseg.imaging.errors import InputError
from tests.helpers.phantom import digests, traces

SPLITS = ("train", "validation", "test")
SMALL: dict[str, Any] = {"seed": 3, "train": 40, "validation": 11, "test": 30, "image_size_px": 48}
TINY: dict[str, Any] = {"train": 4, "validation": 1, "test": 2, "image_size_px": 32, "workers": 0}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "roco"
    generate_roco(out, **SMALL, workers=0)
    return out


def radiology(phantom: Path, split: str) -> Path:
    return phantom / "data" / split / "radiology"


def captions(phantom: Path, split: str) -> dict[str, str]:
    lines = (radiology(phantom, split) / "captions.txt").read_text("utf-8").splitlines()
    return dict(line.split("\t") for line in lines)


def truth(phantom: Path, split: str) -> dict[str, Any]:
    return json.loads((phantom / "ground_truth" / split / "structures.json").read_text("utf-8"))


# --- layout ---


@pytest.mark.parametrize("split", SPLITS)
def test_captions_have_rocos_form(phantom: Path, split: str):
    text = (radiology(phantom, split) / "captions.txt").read_bytes().decode("utf-8")
    assert text.endswith("\n")
    assert "\r" not in text
    lines = text.removesuffix("\n").split("\n")
    assert len(lines) == SMALL[split]
    for line in lines:
        assert re.fullmatch(r"ROCO_\d{5,}\t [A-Z][^\t]+\.", line), line


@pytest.mark.parametrize("split", SPLITS)
def test_every_text_file_speaks_of_the_same_items(phantom: Path, split: str):
    folder = radiology(phantom, split)
    ids = list(captions(phantom, split))
    for name, first_value in {
        "keywords.txt": r"[a-z-]+",
        "cuis.txt": r"C\d{7}",
        "semtypes.txt": r"T\d{3}",
    }.items():
        rows = [line.split("\t") for line in (folder / name).read_text("utf-8").splitlines()]
        assert [row[0] for row in rows] == ids
        assert all(row[1] == "" and re.fullmatch(first_value, row[2]) for row in rows)
        assert all(len(set(row[2:])) == len(row[2:]) for row in rows)
    types = [line.split("\t")[2:] for line in (folder / "semtypes.txt").read_text("utf-8").splitlines()]
    assert all(len(row) % 2 == 0 for row in types)  # identifier, name
    links = [line.split("\t") for line in (folder / "dlinks.txt").read_text("utf-8").splitlines()]
    assert [row[0] for row in links] == ids
    assert all(len(row) == 3 and row[2].endswith(".jpg") for row in links)
    with (folder / "licences.txt").open(encoding="utf-8", newline="") as file:
        licences = list(csv.DictReader(file))
    assert list(licences[0]) == ["ROCO_ID", "PMC_ID", "CC"]
    assert [row["ROCO_ID"] for row in licences] == ids
    assert [row["PMC_ID"] for row in licences] == [row[2] for row in links]


@pytest.mark.parametrize("split", SPLITS)
def test_images_are_greyscale_jpegs_of_the_size(phantom: Path, split: str):
    files = sorted((radiology(phantom, split) / "images").iterdir())
    assert [path.stem for path in files] == sorted(captions(phantom, split))
    for path in files:
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "L", (48, 48))
            assert np.asarray(image).std() > 10


@pytest.mark.parametrize("split", SPLITS)
def test_non_radiology_is_there_and_holds_no_item(phantom: Path, split: str):
    folder = phantom / "data" / split / "non-radiology"
    assert {path.name for path in folder.iterdir()} == {p.name for p in radiology(phantom, split).iterdir()}
    assert list((folder / "images").iterdir()) == []
    assert (folder / "licences.txt").read_text() == "ROCO_ID,PMC_ID,CC\n"
    assert all(path.stat().st_size == 0 for path in folder.glob("*.txt") if path.name != "licences.txt")


def test_identifiers_are_unique_over_the_splits_and_begin_at_one(phantom: Path):
    ids = [case_id for split in SPLITS for case_id in captions(phantom, split)]
    assert len(set(ids)) == len(ids) == 81
    assert "ROCO_00001" in ids
    assert set(ids).isdisjoint({"ROCO_00000"})


@pytest.mark.parametrize("split", SPLITS)
def test_ground_truth_agrees_with_captions_and_masks(phantom: Path, split: str):
    facts, texts = truth(phantom, split), captions(phantom, split)
    assert set(facts["structures"]) == {anatomy.name for anatomy, _ in MODALITIES}
    assert list(facts["items"]) == list(texts)
    for case_id, item in facts["items"].items():
        assert " " + item["caption"]["text"] == texts[case_id]
        with Image.open(phantom / "ground_truth" / split / "masks" / f"{case_id}.png") as picture:
            labels = np.asarray(picture)
        assert labels.shape == (48, 48)
        names = {int(index): s["name"] for index, s in facts["structures"][item["modality"]].items()}
        found = {names[int(value)]: int((labels == value).sum()) for value in np.unique(labels) if value}
        assert found == item["areas_px"]


# --- splits and pairs ---


def test_no_picture_caption_group_or_patient_is_in_two_splits(phantom: Path):
    for kind in ("*.jpg", "*.png"):
        counts = Counter(hashlib.sha256(path.read_bytes()).digest() for path in phantom.rglob(kind))
        # A label map may recur within a pair (a fact of intensity alone), a picture never.
        assert max(counts.values()) <= (1 if kind == "*.jpg" else 2)
    groups = {split: {item["group"] for item in truth(phantom, split)["items"].values()} for split in SPLITS}
    assert groups["train"].isdisjoint(groups["test"] | groups["validation"])
    assert groups["validation"].isdisjoint(groups["test"])


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, 0), (0.3, 300), (0.5, 500), (1.0, 1000)])
def test_share_of_paired_items(fraction: float, expected: int):
    places = [ItemPlace(0, "train", index, 1000, fraction) for index in range(1000)]
    assert sum(place.paired for place in places) == expected
    groups = Counter(place.group_id for place in places)
    sizes = Counter(groups.values())
    assert (sizes[1], sizes[2]) == (1000 - expected, expected // 2)


def test_a_last_item_without_partner_is_no_pair():
    assert not ItemPlace(0, "test", 10, 11, 1.0).paired
    assert ItemPlace(0, "test", 9, 11, 1.0).paired


def test_report_counts_pairs_and_duplicates(phantom: Path):
    report = generate_roco(phantom, **SMALL)
    assert not report.created
    assert report.items == {split: SMALL[split] for split in SPLITS}
    for split in SPLITS:
        items = truth(phantom, split)["items"]
        assert report.paired_items[split] == sum(item["contrast"] is not None for item in items.values())
        assert report.paired_items[split] == 2 * int(0.3 * (len(items) // 2))
        texts = captions(phantom, split).values()
        assert report.duplicate_captions[split] == pytest.approx(1 - len(set(texts)) / len(texts))
        assert report.duplicate_captions[split] < 0.05


# --- equal bytes ---


def test_bytes_do_not_depend_on_the_number_of_workers(phantom: Path, tmp_path: Path):
    before = set(multiprocessing.active_children())  # of the session's process pool
    report = generate_roco(tmp_path / "other", **SMALL, workers=2)
    assert report.created
    assert digests(tmp_path / "other") == digests(phantom)
    assert traces(tmp_path / "other") == []
    assert set(multiprocessing.active_children()) <= before


def test_items_do_not_depend_on_the_size_of_other_splits(phantom: Path, tmp_path: Path):
    generate_roco(tmp_path / "other", **{**SMALL, "train": 20, "validation": 0}, workers=0)
    before, after = digests(phantom), digests(tmp_path / "other")
    kept = [path for path in after if path.startswith(("data/test", "ground_truth/test")) or path.endswith(".jpg")]
    assert len(kept) > 50 + 30
    assert [path for path in kept if before[path] != after[path]] == []


def test_another_seed_gives_other_pictures(tmp_path: Path):
    first = generate_roco(tmp_path / "a", **TINY, seed=1)
    second = generate_roco(tmp_path / "b", **TINY, seed=2)
    assert first.content_sha256 != second.content_sha256
    a, b = digests(tmp_path / "a"), digests(tmp_path / "b")
    images = [path for path in a if path.endswith((".jpg", ".png"))]
    assert len(images) == 14
    assert all(a[path] != b[path] for path in images)


def test_content_digest_is_that_of_the_files(phantom: Path):
    lines = [f"{path} {digest}\n" for path, digest in digests(phantom).items() if path != "phantom.json"]
    expected = hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
    assert json.loads((phantom / "phantom.json").read_text())["content_sha256"] == expected


def test_the_bytes_are_those_that_published_figures_rest_on(tmp_path: Path):
    """Recorded before the other layouts were added; what they need may change no pixel, caption or mask here.

    The digest holds for the locked versions of numpy, scipy and Pillow.
    """
    report = generate_roco(tmp_path / "roco", **SMALL, workers=0)
    assert report.content_sha256 == "77657b0bb342878da3a6510cf8432e3f112f0d6c49f163b5b9216abbbd6b3ced"
    sizes = {"train": 40, "validation": 4, "test": 24, "image_size_px": 128}
    report = generate_roco(tmp_path / "larger", **sizes, seed=0, workers=0)
    assert report.content_sha256 == "653aba4b1c7a85785f27c3409d26ca19f277de7da3b63d29e85c665470318f0c"


# --- command line ---


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_phantom_arguments(parser)
    return parser.parse_args(arguments)


def test_command_writes_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sizes = ["--train", "6", "--validation", "2", "--test", "4", "--image-size-px", "32", "--workers", "0"]
    out = ["--out", str(tmp_path / "roco")]
    args = parse(*out, "--seed", "5", *sizes, "--hard-negative-fraction", "0.5")
    assert run_phantom(args) == 0
    assert "test" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "roco" / "phantom.json").read_text())
    assert manifest["parameters"] == {
        "seed": 5,
        "train": 6,
        "validation": 2,
        "test": 4,
        "image_size_px": 32,
        "hard_negative_fraction": 0.5,
    }
    assert run_phantom(args) == 0
    assert "already there" in capsys.readouterr().out


def test_command_defaults_are_those_of_the_function():
    defaults = generate_roco.__kwdefaults__
    assert make_layout(parse()).parameters == {
        name: value for name, value in defaults.items() if name not in ("workers", "on_progress")
    }


def test_command_refuses_bad_arguments(tmp_path: Path):
    with pytest.raises(InputError, match="image_size_px"):
        run_phantom(parse("--out", str(tmp_path / "roco"), "--image-size-px", "3"))


def test_png_palette_shows_labels_apart(phantom: Path):
    path = next((phantom / "ground_truth/train/masks").iterdir())
    with Image.open(io.BytesIO(path.read_bytes())) as picture:
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) >= 5
