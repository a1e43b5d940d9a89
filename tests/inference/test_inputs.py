from pathlib import Path

import numpy as np
import pytest

from medzeroseg.imaging import InputError
from medzeroseg.inference.inputs import RESULT_NAME, find_inputs
from tests.helpers.fake_dicom import base_dataset, write_series
from tests.helpers.fake_inference import write_picture


def names(*paths: Path) -> list[str]:
    return [one.name for one in find_inputs(paths)[0]]


def test_a_folder_of_files_and_series(tmp_path: Path):
    write_picture(tmp_path / "b.png")
    write_picture(tmp_path / "a.JPG")
    (tmp_path / "scan.nii.gz").write_bytes(b"damaged, but an image by its ending")
    (tmp_path / "notes.txt").write_text("read me")
    (tmp_path / ".hidden.png").write_bytes(b"")
    write_series(tmp_path / "series", 3)
    (tmp_path / "empty").mkdir()
    found, others = find_inputs([tmp_path])
    assert [one.name for one in found] == ["a", "b", "scan", "series"]
    assert others == 1


def test_a_folder_with_slices_is_one_series(tmp_path: Path):
    write_series(tmp_path / "series", 3)
    assert [one.path for one in find_inputs([tmp_path / "series"])[0]] == [tmp_path / "series"]


def test_radiographs_without_a_place_are_images_of_their_own(tmp_path: Path):
    for name in ("a", "b"):
        base_dataset(np.zeros((9, 9), np.uint16), Modality="DX").save_as(tmp_path / name)
    assert names(tmp_path) == ["a", "b"]


def test_same_names_are_told_apart(tmp_path: Path):
    (tmp_path / "more").mkdir()
    paths = [write_picture(tmp_path / name) for name in ("a.png", "a.bmp", "more/a.png")]
    assert names(*paths, paths[0]) == ["a_png", "a_bmp", "a_png_2"]


def test_results_are_never_inputs(tmp_path: Path):
    write_picture(tmp_path / "a.png")
    write_series(tmp_path / "a", 1)
    (tmp_path / "a" / RESULT_NAME).write_text("{}")
    assert names(tmp_path) == ["a"]


def test_nothing_to_segment(tmp_path: Path):
    with pytest.raises(InputError, match="holds no image"):
        find_inputs([tmp_path])
    with pytest.raises(InputError, match="no such file"):
        find_inputs([tmp_path / "gone.png"])
