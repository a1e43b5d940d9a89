import gzip
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medzeroseg.errors import OutputError
from medzeroseg.imaging import Volume, read_volume, to_display, write_mask

SHAPE = (4, 5, 6)
GEOMETRY_FIELDS = ("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d")
GEOMETRY_FIELDS += ("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z")


def affine_of(order: tuple[int, ...], signs: tuple[int, ...], tilt: float) -> np.ndarray:
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = (turn @ np.diag(signs))[:, order] * [0.7, 0.8, 3.1]
    affine[:3, 3] = -90.1, 126.2, -72.3
    return affine


@pytest.mark.parametrize("version", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_a_nifti_mask_is_bit_for_bit_on_its_image(tmp_path: Path, version: type, tilt: float):
    array = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
    for number, (order, signs) in enumerate(product(permutations(range(3)), product([1, -1], repeat=3))):
        image = version(array, affine_of(order, signs, tilt))
        image.set_sform(image.affine, code=number % 5)
        image.set_qform(image.affine, code=(number + 1) % 5)
        image.header.set_xyzt_units("mm", "sec")
        path, out = tmp_path / f"{number}.nii", tmp_path / f"{number}_mask.nii.gz"
        image.to_filename(path)
        view = to_display(read_volume(path))
        assert view.geometry.orientation == "SPL"
        write_mask(out, (view.array > 300).astype(np.uint8) * 7, view)
        source, mask = nib.load(path), nib.load(out)
        assert mask.get_data_dtype() == np.uint8
        assert np.array_equal(np.asarray(mask.dataobj), (array > 300) * 7)
        assert np.array_equal(mask.affine, source.affine)
        assert type(mask) is type(source)
        for name in GEOMETRY_FIELDS:
            assert np.array_equal(mask.header[name], source.header[name]), name


@pytest.mark.parametrize("shape", [(4, 5, 6, 1), (4, 5)])
def test_the_shape_of_the_file_is_kept(tmp_path: Path, shape: tuple[int, ...]):
    nib.Nifti1Image(np.arange(np.prod(shape)).reshape(shape).astype(np.int16), np.eye(4)).to_filename(
        tmp_path / "a.nii"
    )
    volume = read_volume(tmp_path / "a.nii")
    write_mask(tmp_path / "m.nii", volume.array % 5, volume)
    mask = nib.load(tmp_path / "m.nii")
    assert mask.shape == shape
    assert np.array_equal(np.asarray(mask.dataobj), np.asarray(nib.load(tmp_path / "a.nii").dataobj) % 5)


def test_one_volume_of_several_gives_a_mask_of_three_axes(tmp_path: Path):
    nib.Nifti1Image(np.zeros((*SHAPE, 3), np.int16), np.diag([1, 2, 3, 1.0])).to_filename(tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii", volume_index=2)
    write_mask(tmp_path / "m.nii", np.ones(volume.shape, bool), volume)
    assert nib.load(tmp_path / "m.nii").shape == SHAPE


def test_equal_masks_make_equal_files_that_hold_no_file_name(tmp_path: Path):
    nib.Nifti1Image(np.zeros(SHAPE, np.int16), np.eye(4)).to_filename(tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    for name in ("one", "two"):
        write_mask(tmp_path / "deep" / f"{name}.nii.gz", volume.array, volume)
    one, two = ((tmp_path / "deep" / f"{name}.nii.gz").read_bytes() for name in ("one", "two"))
    assert one == two
    assert b"one" not in one[:64]
    assert len(gzip.decompress(one)) == 352 + np.prod(SHAPE)
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["one.nii.gz", "two.nii.gz"]


def test_what_cannot_be_written_is_named(tmp_path: Path):
    volume = Volume(np.zeros((2, 3, 4), np.int16))
    mask = np.zeros((2, 3, 4), np.uint8)
    with pytest.raises(OutputError, match=r"nii\.gz"):
        write_mask(tmp_path / "a.jpg", mask, volume)
    with pytest.raises(OutputError, match="one slice"):
        write_mask(tmp_path / "a.png", mask, volume)
    with pytest.raises(OutputError, match="only a DICOM image"):
        write_mask(tmp_path / "a.dcm", mask, volume)
    with pytest.raises(ValueError, match="mask"):
        write_mask(tmp_path / "a.nii", mask.astype(float), volume)
    with pytest.raises(ValueError, match=r"0\.\.255"):
        write_mask(tmp_path / "a.nii", mask.astype(int) + 256, volume)
    with pytest.raises(ValueError, match="array"):
        write_mask(tmp_path / "a.nii", mask[:1], volume)
    with pytest.raises(ValueError, match="identity"):
        write_mask(tmp_path / "a.nii", mask, volume, identity="maybe")
    with pytest.raises(ValueError, match="label_names"):
        write_mask(tmp_path / "a.nii", mask, volume, label_names={0: "background"})
    (tmp_path / "file").touch()
    for suffix in ("nii.gz", "mha"):
        with pytest.raises(OutputError, match="Cannot write"):
            write_mask(tmp_path / "file" / f"a.{suffix}", mask, volume)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
