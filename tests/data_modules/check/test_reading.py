import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_modules.case_sources import PicturePair, VolumePair
from data_modules.cases import CaseArrays, SegmentationCase
from data_modules.check.reading import count_labels, hash_of_pixels, quiet_readers, read_all, read_facts
from data_modules.pairs import ImageTextRecord, PictureFile
from tests.helpers.fake_segmentation import write_nifti


def pixels(array: np.ndarray) -> bytes:
    return hash_of_pixels(array, float(array.min()), float(array.max()))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99), st.floats(0, 1))
def test_labels_are_counted_as_by_unique(depth: int, height: int, width: int, seed: int, empty: float):
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 256, (depth, height, width)).astype(np.uint8)
    mask[rng.uniform(size=mask.shape) < empty] = 0
    for view in (mask, mask[:, ::-1, ::-1], mask.transpose(2, 0, 1)):
        labels, counts = np.unique(view, return_counts=True)
        assert count_labels(view) == dict(zip(labels.tolist(), counts.tolist(), strict=True))


def test_equal_pixels_hash_alike_whatever_holds_them():
    rng = np.random.default_rng(0)
    for low, high in ((0, 256), (-1000, 2000)):
        values = rng.integers(low, high, (3, 5, 7))
        hashes = {pixels(values.astype(kind)) for kind in (np.int16, np.int32, np.float32, np.float64)}
        assert len(hashes) == 1
        changed = values.copy()
        changed[2, 4, 6] += 1 if changed[2, 4, 6] < high - 1 else -1
        assert pixels(changed) not in hashes
    assert pixels(np.zeros((2, 3, 4))) != pixels(np.zeros((2, 4, 3)))
    fraction = rng.normal(size=(2, 3, 4)).astype(np.float32)
    assert pixels(fraction) == pixels(fraction.astype(np.float64)) != pixels(np.rint(fraction))


def test_a_copy_in_another_file_is_found_and_a_lossy_one_is_not(tmp_path: Path):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (20, 24)).astype(np.uint8)
    picture = Image.fromarray(grey)
    picture.save(tmp_path / "a.png")
    picture.convert("RGB").save(tmp_path / "b.png", compress_level=1)
    picture.save(tmp_path / "c.bmp")
    picture.save(tmp_path / "d.jpg", quality=80)
    hashes = [
        read_facts("train", ImageTextRecord(path.stem, "", PictureFile(path))).pixels
        for path in sorted(tmp_path.iterdir())
    ]
    as_case = SegmentationCase("e", "e", PicturePair(tmp_path / "a.png"))
    assert hashes[0] == hashes[1] == hashes[2] == read_facts("train", as_case).pixels
    assert hashes[3] != hashes[0]
    volume = rng.integers(-1000, 1000, (3, 4, 5)).astype(np.int16)
    for name in ("a.nii", "b.nii.gz"):
        write_nifti(tmp_path / name, volume)
    write_nifti(tmp_path / "c.nii.gz", volume.astype(np.float32))
    volumes = [read_facts("train", SegmentationCase("v", "v", VolumePair(path))) for path in tmp_path.glob("*.nii*")]
    assert len({facts.pixels for facts in volumes}) == 1


class Broken:
    files = (Path("no_such_file.bin"),)
    has_reference = False

    def read(self) -> CaseArrays:
        raise ZeroDivisionError("DOE^JOHN")


def test_a_reader_that_fails_does_not_stop_the_others_nor_quote_the_file(tmp_path: Path):
    write_nifti(tmp_path / "a.nii.gz", np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    good = SegmentationCase("good", "p", VolumePair(tmp_path / "a.nii.gz", tmp_path / "a.nii.gz"))
    bad = SegmentationCase("bad", "p", Broken())
    seen = []
    facts = read_all([("train", bad), ("test", good), ("val", bad)], 2, lambda: seen.append(1))
    assert [(one.split, one.case_id) for one in facts] == [("train", "bad"), ("test", "good"), ("val", "bad")]
    assert facts[0].refused == "no_such_file.bin: the reader failed unexpectedly (ZeroDivisionError)"
    assert facts[1].refused is None
    assert facts[1].shape == (2, 3, 4)
    assert facts[1].spacing_mm == (2.0, 2.0, 2.0)
    assert facts[1].voxels_of_label == dict.fromkeys(range(24), 1)
    assert len(seen) == 3


def test_libraries_are_kept_quiet_and_then_heard_again(caplog: pytest.LogCaptureFixture):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with quiet_readers():
            logging.getLogger("pydicom").error("DOE^JOHN")
            warnings.warn("Invalid value: DOE^JOHN", stacklevel=1)
        assert not caught
        assert "DOE" not in caplog.text
        logging.getLogger("pydicom").error("heard")
        warnings.warn("heard", stacklevel=1)
        assert len(caught) == 1
    assert "heard" in caplog.text
