"""Real scans lie the right way up: what is known of the body is found where a radiologist looks for it."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medzeroseg.imaging import read_volume, to_display, write_mask


def test_dicom_series(real_samples: Path):
    volume = read_volume(real_samples / "ct_dicom_series")
    assert volume.shape == (20, 512, 512)
    assert volume.spacing_mm == pytest.approx((2.0, 0.9765625, 0.9765625))
    assert any("3 mm" in note and "2 mm" in note for note in volume.notes)
    assert volume.window == (-110, 190)
    view = to_display(volume)
    assert np.array_equal(view.array, volume.array)
    middle = view.array[10]
    body = np.argwhere(middle > -300)
    table = np.argwhere(middle[420:] > -300)
    assert body[:, 0].min() > 100  # air in front
    assert len(table) == 0 or body[:, 0].max() > 350  # the couch is behind the patient
    bone = np.argwhere(middle[:, 230:280] > 300)
    assert bone[:, 0].mean() > 256  # the spine lies towards the back


def test_nifti_in_ras(real_samples: Path, tmp_path: Path):
    path = real_samples / "totalsegmentator_ct" / "ct.nii.gz"
    volume = read_volume(path)
    assert volume.geometry.orientation == "SAR"
    view = to_display(volume)
    organs = {
        name: np.argwhere(to_display(read_volume(path.parent / "organs" / f"{name}.nii.gz")).array).mean(axis=0)
        for name in ("liver", "spleen", "aorta", "stomach", "kidney_left", "kidney_right")
    }
    assert organs["liver"][2] < organs["stomach"][2] < organs["spleen"][2]  # columns: the patient's right first
    assert organs["kidney_right"][2] < organs["aorta"][2] < organs["kidney_left"][2]
    assert organs["stomach"][1] < organs["aorta"][1]  # rows: front first
    assert organs["kidney_left"][0] < organs["spleen"][0]  # slices: feet first
    mask = (view.array > 150).astype(np.uint8)
    write_mask(tmp_path / "mask.nii.gz", mask, view)
    written, source = nib.load(tmp_path / "mask.nii.gz"), nib.load(path)
    assert np.array_equal(written.affine, source.affine)
    assert np.array_equal(np.asarray(written.dataobj), np.asarray(source.dataobj) > 150)
