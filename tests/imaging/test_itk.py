from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medzeroseg.imaging import InputError, read_volume, to_display, write_mask

DIRECTION = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)  # i to the right, j to the front, in ITK's LPS axes


def save(path: Path, array: np.ndarray, direction: tuple[float, ...] = DIRECTION) -> Path:
    image = sitk.GetImageFromArray(array)
    if image.GetDimension() == 3:
        image.SetSpacing((0.5, 0.75, 3.0))
        image.SetOrigin((10.0, 20.0, 30.0))
        image.SetDirection(direction)
    sitk.WriteImage(image, str(path))
    return path


def ramp(dtype: str = "int16", shape: tuple[int, ...] = (4, 5, 6)) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("suffix", ["nrrd", "nhdr", "mha", "mhd"])
def test_values_and_places(tmp_path: Path, suffix: str):
    volume = read_volume(save(tmp_path / f"a.{suffix}", ramp()))
    assert np.array_equal(volume.array, ramp())
    assert volume.array.dtype == np.int16
    assert volume.geometry.orientation == "SAR"
    assert volume.spacing_mm == pytest.approx((3.0, 0.75, 0.5))
    # LPS (10, 20, 30) is RAS (-10, -20, 30)
    assert np.allclose(volume.geometry.affine_ras_mm @ [0, 0, 0, 1], [-10, -20, 30, 1])
    assert np.allclose(volume.geometry.affine_ras_mm @ [1, 1, 1, 1], [-9.5, -19.25, 33, 1])


def test_oblique_places_agree_with_itk(tmp_path: Path):
    rotation, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    path = save(tmp_path / "a.mha", ramp(), tuple(rotation.ravel()))
    volume, image = read_volume(path), sitk.ReadImage(str(path))
    for index in [(0, 0, 0), (3, 1, 2), (1, 4, 5)]:
        place = np.array(image.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]])) * [-1, -1, 1]
        assert np.allclose(volume.geometry.affine_ras_mm @ [*index, 1], [*place, 1], atol=1e-6)


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_a_mask_lies_on_its_image_for_itk(tmp_path: Path, suffix: str):
    rotation, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))
    path = save(tmp_path / f"a.{suffix}", ramp(), tuple(rotation.ravel()))
    view = to_display(read_volume(path))
    write_mask(tmp_path / f"mask.{suffix}", view.array % 3, view)
    image, mask = sitk.ReadImage(str(path)), sitk.ReadImage(str(tmp_path / f"mask.{suffix}"))
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert image.GetOrigin() == mask.GetOrigin()
    assert image.GetSpacing() == mask.GetSpacing()
    assert image.GetDirection() == mask.GetDirection()
    assert np.array_equal(sitk.GetArrayFromImage(mask), ramp() % 3)


def test_flat_and_four_axes(tmp_path: Path):
    flat = read_volume(save(tmp_path / "a.mha", ramp(shape=(5, 6))))
    assert flat.shape == (1, 5, 6)
    assert flat.geometry is None
    write_mask(tmp_path / "mask.mha", flat.array % 2, flat)
    assert sitk.ReadImage(str(tmp_path / "mask.mha")).GetSize() == (6, 5)
    four = sitk.JoinSeries([sitk.GetImageFromArray(ramp()), sitk.GetImageFromArray(ramp() + 1)])
    sitk.WriteImage(four, str(tmp_path / "four.nrrd"))
    with pytest.raises(InputError, match="volume_index=0 to 1"):
        read_volume(tmp_path / "four.nrrd")
    assert np.array_equal(read_volume(tmp_path / "four.nrrd", volume_index=1).array, ramp() + 1)


def test_not_finite_is_replaced(tmp_path: Path):
    array = ramp("float64") + 1
    array[0, 0, 0] = np.nan
    volume = read_volume(save(tmp_path / "a.nrrd", array))
    assert volume.array[0, 0, 0] == 2
    assert volume.array.dtype == np.float32
    assert "1 voxels" in volume.notes[0]


def test_colour_is_refused(tmp_path: Path):
    image = sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True)
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    with pytest.raises(InputError, match="several values"):
        read_volume(tmp_path / "a.mha")


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_damage_is_named_without_a_word_of_the_header(tmp_path: Path, suffix: str, capfd):
    path = save(tmp_path / f"a.{suffix}", ramp(shape=(8, 9, 10)))
    path.write_bytes(path.read_bytes()[:-700].replace(b"space", b"Doe^John"))
    with pytest.raises(InputError, match="damaged or truncated") as caught:
        read_volume(path)
    captured = capfd.readouterr()
    assert "Doe" not in str(caught.value) + captured.out + captured.err
    save(tmp_path / "b.mhd", ramp())
    (tmp_path / "b.raw").unlink()
    with pytest.raises(InputError, match="beside it"):
        read_volume(tmp_path / "b.mhd")
