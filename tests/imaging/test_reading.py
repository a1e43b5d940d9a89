import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medzeroseg.imaging import InputError, read_image, read_volume, write_mask

RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def test_the_import_is_light():
    heavy = ("torch", "SimpleITK", "highdicom", "pydicom", "nibabel", "lightning", "monai")
    code = f"import sys, medzeroseg.imaging; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_deep_grey_keeps_its_own_intensities(tmp_path: Path):
    values = np.array([[1000, 2000, 7], [3000, 50000, 9]], np.uint16)
    for suffix in ("png", "tif"):
        Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
        volume = read_image(tmp_path / f"deep.{suffix}")
        assert np.array_equal(volume.array, values[None])
        assert volume.array.dtype == np.uint16
        assert volume.window is None
        assert volume.geometry is None


def test_eight_bits(tmp_path: Path):
    Image.fromarray(RAMP).save(tmp_path / "grey.png")
    volume = read_image(tmp_path / "grey.png")
    assert np.array_equal(volume.array, RAMP[None])
    assert volume.window == (0, 255)
    assert volume.rgb is None
    Image.fromarray(RAMP > 100).save(tmp_path / "bit.png")
    assert np.array_equal(read_image(tmp_path / "bit.png").array[0], np.where(RAMP > 100, 255, 0))


def test_colour_is_kept_beside_its_luma(tmp_path: Path):
    colours = np.random.default_rng(0).integers(0, 255, (6, 5, 3), np.uint8)
    Image.fromarray(colours).save(tmp_path / "a.png")
    volume = read_image(tmp_path / "a.png")
    assert np.array_equal(volume.rgb, colours[None])
    assert np.abs(volume.array[0].astype(int) - np.asarray(Image.fromarray(colours).convert("L"))).max() <= 1


def test_grey_stored_as_colour_is_grey(tmp_path: Path):
    Image.fromarray(RAMP).convert("RGB").save(tmp_path / "a.png")
    volume = read_image(tmp_path / "a.png")
    assert volume.rgb is None
    assert np.array_equal(volume.array, RAMP[None])


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "LA"])
def test_other_modes_go_through_read_picture(tmp_path: Path, mode: str):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    picture = Image.new("RGB", (8, 6), (200, 30, 60)).convert("RGBA" if mode == "LA" else "RGB").convert(mode)
    picture.save(path)
    volume = read_image(path)
    assert volume.shape == (1, 6, 8)
    assert (volume.rgb is None) == (mode == "LA")


def test_not_finite_pixels(tmp_path: Path):
    values = np.array([[np.nan, 2.0], [3.0, 4.0]], np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    volume = read_image(tmp_path / "a.tif")
    assert volume.array.tolist() == [[[2.0, 2.0], [3.0, 4.0]]]
    assert "1 pixels" in volume.notes[0]


def test_scans_are_recognised_too(tmp_path: Path):
    nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)).to_filename(tmp_path / "a.nii.gz")
    assert read_image(tmp_path / "a.nii.gz").shape == (5, 4, 3)


def test_a_picture_is_no_scan(tmp_path: Path):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="no scan"):
        read_volume(tmp_path / "a.png")


def test_bad_input_is_named(tmp_path: Path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "page.png").write_text("<html>")
    for name, reason in {"empty.png": "0 bytes", "page.png": "no picture", "none.png": "no such file"}.items():
        with pytest.raises(InputError, match=reason) as caught:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(InputError, match="no DICOM image"):
        read_image(tmp_path / "." / ".." / tmp_path.name)
    with pytest.raises(ValueError, match="uneven_steps"):
        read_volume(tmp_path, uneven_steps="maybe")
    with pytest.raises(ValueError, match="duplicate_positions"):
        read_volume(tmp_path, duplicate_positions="last")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path: Path):
    path = tmp_path / "locked.png"
    Image.fromarray(RAMP).save(path)
    path.chmod(0)
    with pytest.raises(InputError, match="permission"):
        read_image(path)


def test_a_png_mask_lies_pixel_by_pixel(tmp_path: Path):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    volume = read_image(tmp_path / "a.png")
    write_mask(tmp_path / "mask.png", volume.array, volume)
    mask = Image.open(tmp_path / "mask.png")
    assert mask.mode == "L"
    assert np.array_equal(np.asarray(mask), RAMP)
