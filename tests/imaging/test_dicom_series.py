import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from medzeroseg.imaging import InputError, read_volume, to_display
from medzeroseg.imaging.dicom_series import read_dicom_series
from tests.helpers.fake_dicom import base_dataset, enhanced_dataset, slice_dataset, write_series

PIXELS = np.random.default_rng(1).integers(0, 4096, (8, 10), dtype=np.uint16)


def test_slices_are_sorted_by_place_and_named_and_numbered_backwards(tmp_path: Path):
    hu = write_series(tmp_path / "s")
    volume = read_volume(tmp_path / "s")
    assert np.array_equal(volume.array, hu)
    assert volume.array.dtype == np.int16
    assert volume.modality == "CT"
    assert volume.geometry.orientation == "SPL"
    assert volume.spacing_mm == pytest.approx((2.0, 0.5, 0.75))
    assert np.allclose(volume.geometry.affine_ras_mm @ [0, 0, 0, 1], [10, 20, -100, 1])
    assert np.allclose(volume.geometry.affine_ras_mm @ [1, 2, 3, 1], [10 - 2.25, 20 - 1, -98, 1])
    assert volume.notes == ()


def test_the_order_is_that_of_the_normal_for_any_direction(tmp_path: Path):
    orientation = [0, 1, 0, 0, 0, -1]  # sagittal: rows run to the back, columns downwards; the normal to the right
    for index in range(4):
        dataset = slice_dataset(PIXELS + index, (5 - 3 * index, 0, 0), ImageOrientationPatient=orientation)
        dataset.save_as(tmp_path / f"{index}.dcm")
    volume = read_volume(tmp_path)
    normal = np.cross(orientation[:3], orientation[3:])
    along = [normal @ [5 - 3 * index, 0, 0] for index in range(4)]
    assert np.array_equal(volume.array, np.stack([PIXELS.astype(int) + i - 1024 for i in np.argsort(along)]))
    assert to_display(volume, "sagittal").geometry.orientation == "LIP"


def test_positions_win_over_thickness(tmp_path: Path):
    write_series(tmp_path, step_mm=1.5, SliceThickness=3.0)
    volume = read_volume(tmp_path)
    assert volume.spacing_mm[0] == pytest.approx(1.5)
    assert "3 mm" in volume.notes[0]
    assert "1.5 mm" in volume.notes[0]


def test_positions_rounded_by_the_scanner_are_even(tmp_path: Path):
    for index in range(9):
        slice_dataset(PIXELS, (0, 0, round(0.75 * index, 1))).save_as(tmp_path / f"{index}.dcm")
    assert read_volume(tmp_path).spacing_mm[0] == pytest.approx(0.75, abs=0.01)


def test_a_missing_slice_is_an_error_that_names_the_gap(tmp_path: Path):
    hu = write_series(tmp_path)
    (tmp_path / "slice003.dcm").unlink()
    with pytest.raises(InputError, match=r"4 mm between slices 2 and 3, where the usual step is 2 mm") as caught:
        read_volume(tmp_path)
    assert "uneven_steps=accept" in str(caught.value)
    volume = read_volume(tmp_path, uneven_steps="accept")
    assert np.array_equal(volume.array, hu[[0, 1, 3, 4]])
    assert volume.spacing_mm[0] == pytest.approx(2.0)
    assert "4 mm" in volume.notes[-1]


def test_gantry_tilt_keeps_the_shear(tmp_path: Path):
    angle = np.radians(15)
    orientation = [1, 0, 0, 0, float(np.cos(angle)), float(-np.sin(angle))]
    for index in range(5):
        dataset = slice_dataset(PIXELS + index, (1, 2, 3.0 * index), ImageOrientationPatient=orientation)
        dataset.save_as(tmp_path / f"{index}.dcm")
    volume = read_volume(tmp_path)
    assert any("15.0 degrees" in note for note in volume.notes)
    for index in range(5):  # the first pixel of each slice lies where its header says, in RAS
        assert np.allclose(volume.geometry.affine_ras_mm @ [index, 0, 0, 1], [-1, -2, 3 * index, 1])
    assert to_display(volume).geometry.orientation == "SPL"


def test_slices_shifted_sideways_make_no_volume(tmp_path: Path):
    write_series(tmp_path)
    dataset = pydicom.dcmread(tmp_path / "slice003.dcm")
    dataset.ImagePositionPatient = [-17, -20, -96]
    dataset.save_as(tmp_path / "slice003.dcm")
    with pytest.raises(InputError, match="shifted"):
        read_volume(tmp_path)


@pytest.mark.parametrize("same_series", [True, False])
def test_a_localizer_is_left_out_and_reported(tmp_path: Path, same_series: bool):
    hu = write_series(tmp_path, ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])
    scout = slice_dataset(
        PIXELS[:5],
        (0, 0, 0),
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        ImageOrientationPatient=[1, 0, 0, 0, 0, -1],
    )
    if not same_series:
        scout.SeriesInstanceUID = generate_uid()
    scout.save_as(tmp_path / "aaa.dcm")
    volume = read_volume(tmp_path)
    assert np.array_equal(volume.array, hu)
    assert volume.notes == ("1 localizer images were left out",)


def test_mixed_series_are_listed_without_their_descriptions(tmp_path: Path):
    hu = write_series(tmp_path, SeriesDescription="Doe abdomen")
    other = generate_uid()
    for index in range(3):
        dataset = slice_dataset(PIXELS, (0, 0, index), SeriesInstanceUID=other, Modality="MR", RescaleIntercept=0)
        dataset.SeriesDescription = "Doe head"
        dataset.save_as(tmp_path / f"mr{index}.dcm")
    with pytest.raises(InputError, match="2 series") as caught:
        read_volume(tmp_path)
    text = str(caught.value)
    assert "series=1: CT, 5 slices of 10 x 8 pixels; series=2: MR, 3 slices of 10 x 8 pixels" in text
    assert "Doe" not in text
    assert other not in text
    assert np.array_equal(read_volume(tmp_path, series=1).array, hu)
    assert read_volume(tmp_path, series=2).modality == "MR"
    with pytest.raises(InputError, match="no series=3"):
        read_volume(tmp_path, series=3)


def test_one_series_of_two_sizes_or_directions_is_mixed(tmp_path: Path):
    write_series(tmp_path)
    slice_dataset(PIXELS[:6], (0, 0, 0)).save_as(tmp_path / "small.dcm")
    slice_dataset(PIXELS, (0, 0, 0), ImageOrientationPatient=[0, 1, 0, 0, 0, -1]).save_as(tmp_path / "turned.dcm")
    with pytest.raises(InputError, match="3 series"):
        read_volume(tmp_path)


def test_copies_are_dropped_and_phases_are_not(tmp_path: Path):
    hu = write_series(tmp_path)
    shutil.copy(tmp_path / "slice002.dcm", tmp_path / "copy of slice.dcm")
    volume = read_volume(tmp_path)
    assert np.array_equal(volume.array, hu)
    assert "1 copies" in volume.notes[0]
    for path in list(tmp_path.glob("slice*.dcm")):
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = generate_uid()
        dataset.InstanceNumber += 100
        dataset.save_as(tmp_path / f"phase2 {path.name}")
    with pytest.raises(InputError, match=r"5 of 5 slice positions hold up to 2 .*duplicate_positions=first"):
        read_volume(tmp_path)
    volume = read_volume(tmp_path, duplicate_positions="first")
    assert np.array_equal(volume.array, hu)
    assert any("5 further slices" in note for note in volume.notes)


def test_slices_with_their_own_slopes(tmp_path: Path):
    for index in range(3):
        slice_dataset(PIXELS, (0, 0, index), RescaleSlope=index + 0.5, RescaleIntercept=0).save_as(
            tmp_path / f"{index}.dcm"
        )
    assert np.allclose(read_volume(tmp_path).array, PIXELS * np.array([0.5, 1.5, 2.5])[:, None, None])


def test_other_files_are_left_out_and_damaged_ones_are_named(tmp_path: Path):
    write_series(tmp_path)
    (tmp_path / "notes.txt").write_text("by Dr Doe")
    (tmp_path / "empty").touch()
    assert "2 files" in read_volume(tmp_path).notes[0]
    (tmp_path / "zero.dcm").touch()
    with pytest.raises(InputError, match=r"zero\.dcm"):
        read_volume(tmp_path)


def test_folders_without_a_scan(tmp_path: Path):
    with pytest.raises(InputError, match="no DICOM image"):
        read_volume(tmp_path)
    write_series(tmp_path / "inner")
    with pytest.raises(InputError, match="1 subfolders"):
        read_volume(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        read_dicom_series(tmp_path / "none")
    with pytest.raises(InputError, match="this is a file"):
        read_dicom_series(tmp_path / "inner" / "slice001.dcm")


def test_images_without_places_make_no_volume(tmp_path: Path):
    for index in range(2):
        base_dataset(PIXELS, Modality="DX").save_as(tmp_path / f"{index}.dcm")
    with pytest.raises(InputError, match="one file at a time"):
        read_volume(tmp_path)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"PixelSpacing": [0, 0.5]}, "spacing"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "orientation"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "orientation"),
    ],
)
def test_unusable_places_are_named(tmp_path: Path, values: dict, reason: str):
    write_series(tmp_path, **values)
    with pytest.raises(InputError, match=reason):
        read_volume(tmp_path)


def test_a_single_slice_takes_its_thickness(tmp_path: Path):
    slice_dataset(PIXELS, (0, 0, 7), SliceThickness=4).save_as(tmp_path / "a.dcm")
    assert read_volume(tmp_path / "a.dcm").spacing_mm == pytest.approx((4, 0.5, 0.75))
    slice_dataset(PIXELS, (0, 0, 7), SliceThickness=None).save_as(tmp_path / "a.dcm")
    assert "1 mm is assumed" in read_volume(tmp_path / "a.dcm").notes[0]


def test_enhanced_multi_frame(tmp_path: Path):
    frames = np.random.default_rng(5).integers(0, 1000, (4, 8, 10), dtype=np.uint16)
    order = [2, 0, 3, 1]
    enhanced_dataset(frames, [(0, 0, 3.0 * index) for index in order]).save_as(tmp_path / "a.dcm")
    volume = read_volume(tmp_path / "a.dcm")
    assert np.array_equal(volume.array, frames[np.argsort(order)] * 2.0 - 1000)
    assert volume.spacing_mm == pytest.approx((3.0, 0.5, 0.75))
    assert np.array_equal(read_volume(tmp_path).array, volume.array)


def test_a_cine_loop_stays_in_its_order(tmp_path: Path):
    frames = np.random.default_rng(5).integers(0, 255, (4, 8, 10), dtype=np.uint8)
    base_dataset(frames, "1.2.840.10008.5.1.4.1.1.3.1", Modality="US").save_as(tmp_path / "a.dcm")
    volume = read_volume(tmp_path / "a.dcm")
    assert np.array_equal(volume.array, frames)
    assert volume.geometry is None
    assert "order of the file" in volume.notes[0]
