"""The phantom in the raw layout of Synapse: organs, attenuations, orientation, and the reader of the real set."""

from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from data_modules.phantom.abdomen_volume import BTCV_LABELS
from data_modules.phantom.generation import generate
from data_modules.phantom.synapse import CASE_NUMBERS, SynapseLayout, case_numbers
from data_modules.phantom_synapse import PhantomSynapseDataModule
from data_modules.synapse import CASES, TRANSUNET_TEST_CASES
from data_modules.synapse_labels import LABEL_NAMES
from medzeroseg.imaging import InputError

IDS = {name: index for index, name in BTCV_LABELS.items()}
SIZE_PX = 96


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "synapse"
    generate(SynapseLayout(seed=0, volumes=5, size_px=SIZE_PX), out, workers=0)
    return out


def volumes(
    phantom: Path,
) -> dict[int, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
    """HU, labels and affine by the number of the volume."""
    found = {}
    for path in sorted((phantom / "RawData/Training/img").iterdir()):
        number = int(path.name[3:7])
        image = nib.load(path)
        labels = nib.load(phantom / f"RawData/Training/label/label{number:04d}.nii.gz")
        np.testing.assert_array_equal(image.affine, labels.affine)
        assert (image.get_data_dtype(), labels.get_data_dtype()) == (np.int16, np.uint8)
        found[number] = np.asarray(image.dataobj).astype(int), np.asarray(labels.dataobj).astype(int), image.affine
    return found


def centre_mm(labels: npt.NDArray[np.int64], affine: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
    """Centre of an organ in RAS coordinates."""
    return np.asarray(affine[:3, :3] @ np.argwhere(labels == IDS[name]).mean(0) + affine[:3, 3])


def test_labels_are_those_of_the_reader():
    assert {index: name.split()[0] for index, name in BTCV_LABELS.items()} == {
        index: name.split()[0] for index, name in LABEL_NAMES["btcv13"].items()
    }


def test_spacing_and_orientation(phantom: Path):
    found = volumes(phantom)
    assert list(found) == [1, 2, 5, 6, 7]
    for number, (image, _, affine) in found.items():
        across, down, step = np.linalg.norm(affine[:3, :3], axis=0)
        assert across == pytest.approx(down)
        assert 375 <= across * SIZE_PX <= 420
        assert 5 <= step <= 6
        assert image.shape[:2] == (SIZE_PX, SIZE_PX)
        assert 24 <= image.shape[2] <= 42
        assert nib.aff2axcodes(affine) == (("R", "A", "S") if number % 2 else ("L", "P", "S"))


def test_organs_are_where_they_belong_whatever_the_orientation(phantom: Path):
    for number, (_, labels, affine) in volumes(phantom).items():
        present = set(np.unique(labels)) - {0}
        assert set(BTCV_LABELS) - present <= {IDS["gallbladder"]}
        x, y, z = (
            {name: centre_mm(labels, affine, name)[axis] for name, index in IDS.items() if index in present}
            for axis in range(3)
        )
        assert min(x["liver"], x["right kidney"], x["right adrenal gland"]) > x["inferior vena cava"], (
            number
        )  # +x is right
        assert max(x["spleen"], x["stomach"], x["left kidney"], x["left adrenal gland"]) < x["aorta"]
        assert x["inferior vena cava"] > x["aorta"]
        assert min(y["liver"], y["stomach"], y["pancreas"]) > y["aorta"]  # +y is in front
        assert max(y["right kidney"], y["left kidney"]) < y["aorta"]
        assert min(z["liver"], z["spleen"], z["esophagus"], z["stomach"]) > max(z["right kidney"], z["left kidney"])
        assert z["right adrenal gland"] > z["right kidney"]
        assert z["left adrenal gland"] > z["left kidney"]


def test_the_liver_is_the_largest_organ(phantom: Path):
    for _, labels, affine in volumes(phantom).values():
        voxel_ml = abs(np.linalg.det(affine[:3, :3])) / 1000
        volume_ml = {name: (labels == index).sum() * voxel_ml for name, index in IDS.items()}
        assert max(volume_ml, key=volume_ml.__getitem__) == "liver"
        assert 1200 < volume_ml["liver"] < 2600
        assert 120 < volume_ml["right kidney"] < 320
        assert 120 < volume_ml["left kidney"] < 320
        assert 40 < volume_ml["pancreas"] < 120
        assert 1 < volume_ml["right adrenal gland"] < 9
        assert 1 < volume_ml["left adrenal gland"] < 9


def test_organs_are_whole(phantom: Path):
    """Almost all of an organ is one piece in space: it does not jump between slices."""
    for _, labels, _ in volumes(phantom).values():
        for name, index in IDS.items():
            pieces, count = ndimage.label(labels == index, np.ones((3, 3, 3)))
            if count and "adrenal" not in name:
                assert np.bincount(pieces.ravel())[1:].max() > 0.85 * (pieces > 0).sum(), name
        big = labels == IDS["liver"]
        for axis_slices in (np.flatnonzero(big.any((0, 1))),):
            assert (np.diff(axis_slices) == 1).all()


def test_attenuation(phantom: Path):
    for image, labels, _ in volumes(phantom).values():
        hu = {name: float(np.median(image[labels == index])) for name, index in IDS.items() if (labels == index).any()}
        for name in ("liver", "spleen", "right kidney", "left kidney", "aorta", "inferior vena cava"):
            assert 80 < hu[name] < 230, name
        assert -30 < hu.get("gallbladder", 0) < 45
        assert 40 < hu["pancreas"] < 130
        assert image[0, 0].max() < -900  # air around
        assert image.min() >= -1024
        top = image[..., -1]
        assert (top < -700).mean() > (image[..., 0] < -700).mean() + 0.05  # the lungs appear in the upper slices


def test_few_volumes_are_on_all_sides_of_the_split():
    assert case_numbers(30) == CASE_NUMBERS == tuple(sorted(CASES))
    module = PhantomSynapseDataModule("unused")
    for count in range(2, 31):
        chosen = set(case_numbers(count))
        assert len(chosen) == count
        assert chosen & TRANSUNET_TEST_CASES
        assert chosen - TRANSUNET_TEST_CASES
        if count >= 5:
            assert all(chosen & module._numbers(split) for split in ("train", "val", "test"))
    assert len(case_numbers(1)) == 1
    assert case_numbers(0) == ()


def test_the_module_makes_and_reads_it(phantom: Path):
    options = {"volumes": 5, "slice_size_px": SIZE_PX, "phantom_workers": 0, "num_workers": 0, "organs": "btcv13"}
    module = PhantomSynapseDataModule(phantom, **options)
    module.prepare_data()
    module.setup("fit")
    module.setup("test")
    cases = {part: [case.case_id for case in module.cases(part)] for part in ("train", "val", "test")}
    assert cases == {"train": ["case0006", "case0007"], "val": ["case0005"], "test": ["case0001", "case0002"]}
    for case in module.cases("test"):
        mask = case.source.read().mask
        assert mask is not None
        middle = mask.shape[1:]
        liver, kidneys = np.argwhere(mask == IDS["liver"]).mean(0), np.argwhere(mask == IDS["left kidney"]).mean(0)
        assert liver[2] < middle[1] / 2 < kidneys[2]  # in display, the patient's right is on the left,
        assert liver[1] < kidneys[1]  # the front on top,
        assert liver[0] > kidneys[0]  # and the feet come first
    with pytest.raises(InputError, match="volumes is 5 there, 6 wanted"):
        PhantomSynapseDataModule(phantom, **options | {"volumes": 6}).prepare_data()


@pytest.mark.parametrize(("name", "value"), [("volumes", 31), ("volumes", -1), ("size_px", 40)])
def test_bad_sizes_are_named(name: str, value: int):
    with pytest.raises(ValueError, match=name):
        SynapseLayout(**{name: value})
