"""The phantom in the layout of COVID-QU-Ex: tree, masks, the two parts, and the reader that serves the real set."""

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from data_modules.phantom.covid_qu_ex import DIAGNOSES, CovidQuExLayout
from data_modules.phantom.generation import generate
from data_modules.phantom_covid_qu_ex import PhantomCOVIDQUExDataModule
from medzeroseg.imaging import InputError

SIZES = {"train": 24, "validation": 5, "test": 7}
PARTS = ("Infection Segmentation Data", "Lung Segmentation Data")
SPLITS = {"Train": 24, "Val": 5, "Test": 7}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "covid"
    generate(CovidQuExLayout(seed=4, **SIZES), out, workers=0)
    return out


def pictures(phantom: Path, part: str, split: str) -> list[Path]:
    return sorted((phantom / part / part / split).glob("*/images/*.png"))


def pixels(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as picture:
        assert (picture.mode, picture.size) == ("L", (256, 256))
        return np.asarray(picture)


def mask(path: Path, kind: str) -> npt.NDArray[np.bool_]:
    values = pixels(path.parent.parent / kind / path.name)
    assert set(np.unique(values)) <= {0, 255}
    return values > 127


@pytest.mark.parametrize("part", PARTS)
def test_tree_and_counts(phantom: Path, part: str):
    for split, count in SPLITS.items():
        found = pictures(phantom, part, split)
        assert len(found) == count
        for path in found:
            pattern = {"COVID-19": r"covid_\d+", "Non-COVID": r"non_COVID \(\d+\)", "Normal": r"Normal \(\d+\)"}
            assert re.fullmatch(pattern[path.parts[-3]], path.stem)
            assert pixels(path).std() > 20
    kinds = {path.name for path in (phantom / part / part).glob("*/*/*")}
    assert kinds == {"images", "lung masks"} | ({"infection masks"} if part.startswith("Inf") else set())


def test_infection_lies_in_the_lungs_and_only_covid_has_some(phantom: Path):
    infected = {diagnosis: [] for diagnosis in DIAGNOSES}
    for split in SPLITS:
        for path in pictures(phantom, PARTS[0], split):
            lungs, infection = mask(path, "lung masks"), mask(path, "infection masks")
            assert 0.08 < lungs.mean() < 0.4
            assert not (infection & ~lungs).any()
            infected[path.parts[-3]].append(infection.mean())
    assert not any(infected["Normal"] + infected["Non-COVID"])
    assert min(infected["COVID-19"]) > 0.002


def test_infection_is_brighter_than_the_lung_around_it(phantom: Path):
    differences = []
    for path in pictures(phantom, PARTS[0], "Train"):
        lungs, infection = mask(path, "lung masks"), mask(path, "infection masks")
        if infection.any():
            image = pixels(path).astype(float)
            differences.append(np.median(image[infection]) - np.median(image[lungs & ~infection]))
    assert min(differences) > 5
    assert np.mean(differences) > 15


def test_both_lungs_are_outlined_on_their_side(phantom: Path):
    for path in pictures(phantom, PARTS[1], "Train"):
        lungs = mask(path, "lung masks")
        assert min(lungs[:, :128].mean(), lungs[:, 128:].mean()) > 0.05


def test_parts_share_pictures_and_split_them_differently(phantom: Path):
    places = {
        part: {(path.parts[-3], path.name): split for split in SPLITS for path in pictures(phantom, part, split)}
        for part in PARTS
    }
    infection, lungs = places.values()
    assert infection.keys() == lungs.keys()
    assert len(infection) == 36
    assert sum(infection[key] != lungs[key] for key in infection) > 5
    for (diagnosis, name), split in infection.items():
        first = phantom / PARTS[0] / PARTS[0] / split / diagnosis / "images" / name
        second = phantom / PARTS[1] / PARTS[1] / lungs[diagnosis, name] / diagnosis / "images" / name
        assert first.read_bytes() == second.read_bytes()


def test_no_picture_is_there_twice(phantom: Path):
    contents = [path.read_bytes() for split in SPLITS for path in pictures(phantom, PARTS[0], split)]
    assert len(set(contents)) == len(contents)


def test_a_picture_does_not_depend_on_the_sizes(phantom: Path, tmp_path: Path):
    generate(CovidQuExLayout(seed=4, train=6, validation=0, test=0), tmp_path / "small", workers=0)
    for path in pictures(tmp_path / "small", PARTS[0], "Train"):
        assert path.read_bytes() == (phantom / path.relative_to(tmp_path / "small")).read_bytes()


@pytest.mark.parametrize("part", ["infection", "lungs"])
def test_the_module_reads_it(phantom: Path, part: str):
    options = {"phantom_seed": 4, **SIZES, "phantom_workers": 0, "num_workers": 0}
    module = PhantomCOVIDQUExDataModule(phantom, part=part, **options)
    module.prepare_data()
    module.setup("fit")
    module.setup("test")
    assert [len(module.cases(name)) for name in ("train", "val", "test")] == [24, 5, 7]
    masks = [case.source.read().mask for case in module.cases("train")]
    found = {int(value) for values in masks if values is not None for value in np.unique(values)}
    assert found == ({0, 1, 2} if part == "infection" else {0, 1})
    with pytest.raises(InputError, match="test is 7 there, 8 wanted"):
        PhantomCOVIDQUExDataModule(phantom, part=part, **options | {"test": 8}).prepare_data()
