import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medzeroseg.imaging import InputError, read_nifti, read_volume

AFFINE = np.array([[-0.8, 0, 0, 90], [0, 0.9, 0, -126], [0, 0, 5.0, -72], [0, 0, 0, 1]])


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = AFFINE, **fields) -> Path:
    image = nib.Nifti1Image(array, affine, dtype=array.dtype)
    for name, value in fields.items():
        image.header[name] = value
    image.to_filename(path)
    return path


def ramp(dtype: str = "int16", shape: tuple[int, ...] = (4, 5, 6)) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i2", "float32", "float64"]
)
def test_values_are_nibabels_in_reversed_axes(tmp_path: Path, dtype: str, suffix: str):
    path = save(tmp_path / f"a.{suffix}", ramp(dtype))
    volume = read_nifti(path)
    assert np.array_equal(volume.array, np.asarray(nib.load(path).dataobj).T)
    assert volume.array.dtype == (np.float32 if "f" in dtype else np.dtype(dtype).newbyteorder("="))
    assert np.allclose(volume.geometry.affine_ras_mm[:, [2, 1, 0, 3]], AFFINE)
    assert volume.spacing_mm == pytest.approx((5.0, 0.9, 0.8))
    assert volume.notes == ()


def test_nifti_2_and_several_gzip_members(tmp_path: Path):
    whole = nib.Nifti2Image(ramp(), AFFINE).to_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(whole[:300]) + gzip.compress(whole[300:]))
    assert np.array_equal(read_nifti(tmp_path / "a.nii.gz").array, ramp().T)


@pytest.mark.parametrize(("slope", "intercept"), [(2.5, -3.0), (1.0, -1024.0), (0.0, 5.0), (1.0, 0.5)])
def test_scale_factors(tmp_path: Path, slope: float, intercept: float):
    image = nib.Nifti1Image(ramp(), AFFINE)
    image.header.set_slope_inter(slope or 1, intercept)
    image.header["scl_slope"] = slope
    raw = bytearray(image.to_bytes())
    raw[112:120] = np.array([slope, intercept], "<f4").tobytes()
    raw[352:] = ramp().tobytes(order="F")
    (tmp_path / "a.nii").write_bytes(raw)
    volume = read_nifti(tmp_path / "a.nii")
    assert np.allclose(volume.array, np.asarray(nib.load(tmp_path / "a.nii").dataobj).T)
    whole = slope in (0.0, 1.0) and intercept != 0.5
    assert volume.array.dtype == (np.int16 if whole else np.float32)


def test_values_that_are_not_finite_are_replaced_and_counted(tmp_path: Path):
    array = ramp("float32") - 50
    array[0, 0, 0], array[1, 1, 1] = np.nan, np.inf
    array[2, 2, 2] = -np.inf
    volume = read_nifti(save(tmp_path / "a.nii.gz", array))
    assert volume.array[0, 0, 0] == volume.array[1, 1, 1] == volume.array[2, 2, 2] == array[np.isfinite(array)].min()
    assert "3 voxels" in volume.notes[0]
    with pytest.raises(InputError, match="finite"):
        read_nifti(save(tmp_path / "b.nii.gz", np.full((2, 2, 2), np.nan, np.float32)))


def test_four_axes(tmp_path: Path):
    array = ramp(shape=(3, 4, 5, 2))
    path = save(tmp_path / "a.nii.gz", array)
    with pytest.raises(InputError, match=r"2 volumes.*volume_index=0 to 1"):
        read_volume(path)
    assert np.array_equal(read_volume(path, volume_index=1).array, array[..., 1].T)
    with pytest.raises(InputError, match="volume_index=2"):
        read_volume(path, volume_index=2)
    single = save(tmp_path / "b.nii.gz", array[..., :1])
    assert np.array_equal(read_volume(single).array, array[..., 0].T)


def test_a_flat_file_has_one_slice(tmp_path: Path):
    assert read_nifti(save(tmp_path / "a.nii", ramp(shape=(4, 5)))).shape == (1, 5, 4)


def test_colour(tmp_path: Path):
    colours = np.random.default_rng(0).integers(0, 255, (4, 5, 6, 3), np.uint8)
    array = np.ascontiguousarray(colours).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    volume = read_nifti(save(tmp_path / "a.nii", array))
    assert np.array_equal(volume.rgb, colours.transpose(2, 1, 0, 3))
    assert volume.array.shape == (6, 5, 4)


def test_qform_alone_places_the_voxels(tmp_path: Path):
    image = nib.Nifti1Image(ramp(), None)
    image.header.set_qform(AFFINE, code=1)
    image.to_filename(tmp_path / "a.nii")
    assert int(nib.load(tmp_path / "a.nii").header["sform_code"]) == 0
    assert np.allclose(read_nifti(tmp_path / "a.nii").geometry.affine_ras_mm[:, [2, 1, 0, 3]], AFFINE, atol=1e-4)


def test_no_orientation_and_a_contradicting_one_are_noted(tmp_path: Path):
    nib.Nifti1Image(ramp(), None).to_filename(tmp_path / "none.nii")
    assert "left and right" in read_nifti(tmp_path / "none.nii").notes[0]
    image = nib.Nifti1Image(ramp(), AFFINE)
    image.header.set_qform(np.diag([-1, 1, 1, 1]) @ AFFINE, code=1)
    image.to_filename(tmp_path / "two.nii")
    volume = read_nifti(tmp_path / "two.nii")
    assert "sform is used" in volume.notes[0]
    assert np.allclose(volume.geometry.affine_ras_mm[:, [2, 1, 0, 3]], AFFINE)


def test_units_become_millimetres(tmp_path: Path):
    image = nib.Nifti1Image(ramp(), np.diag([500, 500, 2000, 1.0]))
    image.header.set_xyzt_units("micron")
    image.to_filename(tmp_path / "a.nii")
    assert read_nifti(tmp_path / "a.nii").spacing_mm == pytest.approx((2.0, 0.5, 0.5))


def test_content_counts_not_the_extension(tmp_path: Path):
    path = save(tmp_path / "a.nii.gz", ramp())
    for name in ("a.nii", "a.gz", "scan"):
        (tmp_path / name).write_bytes(path.read_bytes())
        assert np.array_equal(read_volume(tmp_path / name).array, ramp().T)
    (tmp_path / "b.nii.gz").write_bytes(gzip.decompress(path.read_bytes()))
    assert np.array_equal(read_volume(tmp_path / "b.nii.gz").array, ramp().T)


def test_header_extensions_are_passed_over(tmp_path: Path):
    image = nib.Nifti1Image(ramp(), AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 900))
    image.to_filename(tmp_path / "a.nii.gz")
    assert np.array_equal(read_nifti(tmp_path / "a.nii.gz").array, ramp().T)


@pytest.mark.parametrize("keep", [0, 10, 100, 0.5, -1, -8])
def test_a_truncated_file_is_named(tmp_path: Path, keep: float):
    noise = np.random.default_rng(0).integers(0, 4000, (16, 16, 16)).astype(np.int16)
    for suffix in ("nii", "nii.gz"):
        whole = save(tmp_path / f"whole.{suffix}", noise).read_bytes()
        path = tmp_path / f"cut.{suffix}"
        path.write_bytes(whole[: int(len(whole) * keep)] if isinstance(keep, float) else whole[:keep])
        with pytest.raises(InputError, match=r"truncated|empty|no scan|no NIfTI") as caught:
            read_volume(path)
        assert str(path) in str(caught.value)


def test_damage_is_named(tmp_path: Path):
    whole = bytearray(save(tmp_path / "a.nii.gz", ramp("int16", (16, 16, 16))).read_bytes())
    whole[-6] ^= 0xFF  # the checksum
    (tmp_path / "a.nii.gz").write_bytes(whole)
    with pytest.raises(InputError, match="damaged"):
        read_nifti(tmp_path / "a.nii.gz")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"dim": [3, 4, 5, 0, 1, 1, 1, 1]}, "shape"),
        ({"dim": [3, 4, 5, -6, 1, 1, 1, 1]}, "shape"),
        ({"dim": [9, 4, 5, 6, 1, 1, 1, 1]}, "shape"),
        ({"dim": [3, 30000, 30000, 30000, 1, 1, 1, 1]}, "truncated"),
        ({"datatype": 32}, "intensities"),
        ({"datatype": 77}, "intensities"),
        ({"srow_x": [0, 0, 0, 0]}, "affine"),
        ({"srow_x": [np.nan, 0, 0, 0]}, "affine"),
        ({"xyzt_units": 7}, "units"),
        ({"vox_offset": 3e38}, "offset"),
        ({"vox_offset": np.nan}, "offset"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_wrong_header_is_named(tmp_path: Path, fields: dict, reason: str, packed: bool):
    image = nib.Nifti1Image(ramp(), AFFINE)
    data = image.to_bytes()
    header = image.header.copy()
    for name, value in fields.items():
        header[name] = value
    if "vox_offset" not in fields:
        header["vox_offset"] = 352
    header["magic"] = b"n+1"
    content = header.binaryblock + data[348:]
    (tmp_path / "a.nii").write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(InputError, match=reason):
        read_volume(tmp_path / "a.nii")


def test_files_that_are_something_else(tmp_path: Path):
    (tmp_path / "page.nii").write_text("<html>404</html>")
    (tmp_path / "page.nii.gz").write_bytes(gzip.compress(b"<html>404</html>"))
    (tmp_path / "pair.nii").write_bytes(b"\0" * 344 + b"ni1\0" + b"\0" * 4)
    (tmp_path / "empty.nii").touch()
    for name, reason in {
        "page.nii": "no scan",
        "page.nii.gz": "no NIfTI",
        "pair.nii": "hdr/.img",
        "empty.nii": "0 bytes",
        "missing.nii": "no such file",
    }.items():
        with pytest.raises(InputError, match=reason):
            read_volume(tmp_path / name)
    with pytest.raises(InputError, match="folder"):
        read_nifti(tmp_path)


def test_a_file_without_permission_is_named(tmp_path: Path, monkeypatch):
    path = save(tmp_path / "a.nii", ramp())

    def refuse(self: Path, *arguments: str) -> None:  # a mode of 0 would not stop root, under whom tests may run
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match="permission") as caught:
        read_volume(path)
    assert str(path) in str(caught.value)
