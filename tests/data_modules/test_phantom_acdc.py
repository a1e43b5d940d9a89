"""The phantom in ACDC's layout: geometry, phases, patients, and the reader that serves the real set."""

from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from data_modules.phantom.acdc import GROUPS, AcdcLayout
from data_modules.phantom.generation import generate
from data_modules.phantom_acdc import PhantomACDCDataModule
from medzeroseg.imaging import InputError

LAYOUT = AcdcLayout(seed=2, training=5, testing=2)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "acdc"
    generate(LAYOUT, out, workers=0)
    return out


def folders(phantom: Path) -> list[Path]:
    return sorted(phantom.glob("t*ing/patient*"))


def info(folder: Path) -> dict[str, str]:
    return dict(line.split(": ") for line in (folder / "Info.cfg").read_text().splitlines())


def load(folder: Path, phase: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Image, labels and affine of a phase, `ED` or `ES`."""
    name = f"{folder.name}_frame{int(info(folder)[phase]):02d}"
    image, labels = nib.load(folder / f"{name}.nii.gz"), nib.load(folder / f"{name}_gt.nii.gz")
    np.testing.assert_array_equal(image.affine, labels.affine)
    assert image.shape == labels.shape
    assert labels.get_data_dtype() == np.uint8
    return np.asarray(image.dataobj).astype(int), np.asarray(labels.dataobj).astype(int), image.affine


def cavity_ml(labels: npt.NDArray[np.int64], affine: npt.NDArray[np.float64], label: int) -> float:
    return float((labels == label).sum() * abs(np.linalg.det(affine[:3, :3])) / 1000)


def test_every_patient_has_the_challenges_files(phantom: Path):
    assert [folder.name for folder in folders(phantom)] == [
        "patient101", "patient102", *(f"patient00{i}" for i in range(1, 6)),
    ]  # fmt: skip
    for folder in folders(phantom):
        facts = info(folder)
        assert list(facts) == ["ED", "ES", "Group", "Height", "NbFrame", "Weight"]
        assert int(facts["ED"]) < int(facts["ES"]) < int(facts["NbFrame"])
        frames = {f"{folder.name}_frame{int(facts[phase]):02d}" for phase in ("ED", "ES")}
        expected = {"Info.cfg", f"{folder.name}_4d.nii.gz"}
        expected |= {f"{frame}{end}.nii.gz" for frame in frames for end in ("", "_gt")}
        assert {path.name for path in folder.iterdir()} == expected
    assert {info(folder)["Group"] for folder in folders(phantom)} == set(GROUPS)
    assert len({info(folder)["ES"] for folder in folders(phantom)}) > 1


def test_geometry_is_that_of_short_axis_stacks(phantom: Path):
    for folder in folders(phantom):
        image, _, affine = load(folder, "ED")
        rows, columns, step = np.linalg.norm(affine[:3, :3], axis=0)
        assert rows == pytest.approx(columns)
        assert 1.2 <= rows <= 1.9
        assert 4.999 <= step <= 10.001
        assert 6 <= image.shape[2] <= 12
        unit = affine[:3, :3] / (rows, columns, step)
        np.testing.assert_allclose(unit.T @ unit, np.eye(3), atol=1e-5)
        assert np.abs(unit).max() < 0.999  # oblique
        np.testing.assert_array_less(unit[:, 2] * (1, -1, 1), 0)  # base to apex: to the left, forwards, down
        assert unit[0, 0] < 0  # columns run to the patient's left
        assert unit[2, 1] < 0  # rows run down


def test_the_loop_has_all_frames_and_its_key_frames(phantom: Path):
    for folder in folders(phantom):
        facts = info(folder)
        loop = nib.load(folder / f"{folder.name}_4d.nii.gz")
        assert loop.shape[3] == int(facts["NbFrame"])
        for phase in ("ED", "ES"):
            image, _, affine = load(folder, phase)
            np.testing.assert_array_equal(loop.dataobj[..., int(facts[phase]) - 1], image[::4, ::4])
        np.testing.assert_allclose(loop.affine[:3, :2], 4 * affine[:3, :2], rtol=1e-5)


def test_labels_and_places_of_the_ventricles(phantom: Path):
    for folder in folders(phantom):
        for phase in ("ED", "ES"):
            _, labels, _ = load(folder, phase)
            for k in range(labels.shape[2]):  # every slice shows all three
                assert set(np.unique(labels[..., k])) == {0, 1, 2, 3}
            centres = {label: np.argwhere(labels == label).mean(0) for label in (1, 2, 3)}
            assert centres[1][0] < centres[3][0]  # the right ventricle on the left of the picture
            inside = labels == 3
            muscle = np.isin(labels[..., labels.shape[2] // 2], (2,))
            i, j = np.argwhere(inside[..., labels.shape[2] // 2]).mean(0).round().astype(int)
            assert muscle[:i, j].any()
            assert muscle[i:, j].any()
            assert muscle[i, :j].any()
            assert muscle[i, j:].any()


def test_systole_has_the_smaller_cavity_and_the_thicker_wall(phantom: Path):
    fractions = {}
    for folder in folders(phantom):
        (_, diastole, affine), (_, systole, _) = load(folder, "ED"), load(folder, "ES")
        for label in (1, 3):
            assert cavity_ml(diastole, affine, label) > 1.1 * cavity_ml(systole, affine, label)
        volume = cavity_ml(diastole, affine, 3)
        assert 40 < volume < 450
        fractions[info(folder)["Group"]] = 1 - cavity_ml(systole, affine, 3) / volume
        middle = diastole.shape[2] // 2
        walls = []
        for labels in (diastole, systole):
            cavity = (labels[..., middle] == 3).sum()
            whole = cavity + (labels[..., middle] == 2).sum()
            walls.append(np.sqrt(whole / np.pi) - np.sqrt(cavity / np.pi))
        assert walls[1] > walls[0]
    assert fractions["DCM"] < 0.4  # the challenge's definition of a failing heart
    assert fractions["MINF"] < 0.4
    assert fractions["NOR"] > 0.5


def test_groups_differ_as_their_names_say(phantom: Path):
    volume, muscle = {}, {}
    for folder in sorted(phantom.glob("training/patient*")):
        _, labels, affine = load(folder, "ED")
        volume[info(folder)["Group"]] = cavity_ml(labels, affine, 3), cavity_ml(labels, affine, 1)
        muscle[info(folder)["Group"]] = cavity_ml(labels, affine, 2) / volume[info(folder)["Group"]][0]
    assert volume["DCM"][0] > 1.5 * volume["NOR"][0]
    assert volume["RV"][1] > volume["RV"][0]
    assert muscle["HCM"] > 1.5 * muscle["NOR"]


def test_slices_of_a_stack_follow_each_other(phantom: Path):
    for folder in folders(phantom):
        _, labels, affine = load(folder, "ED")
        pixel = np.linalg.norm(affine[:3, 0])
        centres = np.array([np.argwhere(labels[..., k] == 3).mean(0) for k in range(labels.shape[2])])
        assert np.abs(np.diff(centres, axis=0)).max() * pixel < 4
        areas = (labels == 3).sum((0, 1))
        assert areas[0] > 1.5 * areas[-1]  # the heart tapers to the apex


def test_no_two_patients_are_alike(phantom: Path):
    images = [load(folder, phase)[0].tobytes() for folder in folders(phantom) for phase in ("ED", "ES")]
    assert len(set(images)) == len(images)


def test_the_module_makes_and_reads_it(tmp_path: Path):
    options = {"training": 5, "testing": 2, "phantom_seed": 2, "phantom_workers": 0, "num_workers": 0}
    module = PhantomACDCDataModule(tmp_path / "acdc", **options)
    module.prepare_data()
    module.setup("fit")
    module.setup("test")
    patients = {part: {case.patient for case in module.cases(part)} for part in ("train", "val", "test")}
    assert sum(map(len, patients.values())) == len(set().union(*patients.values())) == 7
    assert {patient[:8] for patient in patients["test"]} == {"patient1"}
    assert {case.facts["phase"] for case in module.cases("train")} == {"end-diastole", "end-systole"}
    case = module.cases("test")[0]
    arrays = case.source.read()
    image, labels, affine = load(tmp_path / "acdc/testing" / case.patient, "ED")
    np.testing.assert_array_equal(arrays.image, image.transpose(2, 1, 0))
    np.testing.assert_array_equal(arrays.mask, labels.transpose(2, 1, 0))
    assert arrays.spacing_mm == pytest.approx(tuple(np.linalg.norm(affine[:3, [2, 1, 0]], axis=0)), rel=1e-4)
    other = PhantomACDCDataModule(tmp_path / "acdc", **options | {"phantom_seed": 3})
    with pytest.raises(InputError, match="seed is 2 there, 3 wanted"):
        other.prepare_data()


@pytest.mark.parametrize(("name", "value"), [("training", -1), ("testing", -2), ("training", 101), ("seed", -1)])
def test_bad_sizes_are_named(name: str, value: int):
    with pytest.raises(ValueError, match=name):
        AcdcLayout(**{name: value})
