import ast
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from data_modules.case_sources import (
    ArrayFiles,
    PicturePair,
    PictureWithMasks,
    VolumePair,
    VolumeWithMasks,
    to_label_ids,
)
from data_modules.cases import IGNORE
from medzeroseg.imaging import InputError
from tests.helpers.fake_segmentation import write_nifti, write_png

SHAPE = (3, 4, 5)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_nifti(tmp_path / "image.nii.gz", np.arange(60, dtype=np.int16).reshape(SHAPE))


def label_file(folder: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    return write_nifti(folder / "label.nii.gz", array, affine)


def test_a_volume_pair_keeps_axes_values_and_spacing(tmp_path: Path, image: Path):
    mask = (np.arange(60).reshape(SHAPE) % 3).astype(np.uint8)
    affine = np.diag([1.5, 1.25, 8.0, 1.0])
    write_nifti(image, np.arange(60, dtype=np.int16).reshape(SHAPE), affine)
    arrays = VolumePair(image, label_file(tmp_path, mask, affine)).read()
    assert np.array_equal(arrays.image, np.arange(60).reshape(SHAPE))
    assert np.array_equal(arrays.mask, mask)
    assert arrays.spacing_mm == pytest.approx((8.0, 1.25, 1.5))


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SAL"])
def test_the_axial_view_is_the_same_however_a_file_stores_it(tmp_path: Path, axes: str):
    """Voxel values that name their place: front on top, the patient's right on the left, from the feet."""
    stored = np.zeros((5, 4, 3), np.int16)  # to the right, front, head
    stored[4, 3, 0], stored[0, 0, 2] = 1, 2
    nifti = nib.Nifti1Image(stored, np.diag([2.0, 3.0, 4.0, 1.0]))
    turn = nib.orientations.ornt_transform(nib.io_orientation(nifti.affine), nib.orientations.axcodes2ornt(axes))
    for name in ("image", "label"):
        nib.save(nifti.as_reoriented(turn), tmp_path / f"{name}.nii.gz")
    arrays = VolumePair(tmp_path / "image.nii.gz", tmp_path / "label.nii.gz", "axial").read()
    assert arrays.image.shape == (3, 4, 5)
    assert arrays.image[0, 0, 0] == 1
    assert arrays.image[2, 3, 4] == 2
    assert np.array_equal(arrays.mask, arrays.image)
    assert arrays.spacing_mm == pytest.approx((4.0, 3.0, 2.0))


def test_without_a_label_map_there_is_no_mask(image: Path):
    source = VolumePair(image)
    assert not source.has_reference
    assert source.files == (image,)
    assert source.read().mask is None


def test_another_shape_names_both_files(tmp_path: Path, image: Path):
    label = label_file(tmp_path, np.zeros((3, 4, 6), np.uint8))
    with pytest.raises(InputError, match=r"label\.nii\.gz: .*shape \(3, 4, 6\).*image\.nii\.gz \(3, 4, 5\)"):
        VolumePair(image, label).read()


@pytest.mark.parametrize("view", ["stored", "axial"])
def test_another_place_names_the_distance(tmp_path: Path, image: Path, view: str):
    shifted = np.diag([2.0, 2.0, 2.0, 1.0])
    shifted[0, 3] = 7
    label = label_file(tmp_path, np.zeros(SHAPE, np.uint8), shifted)
    with pytest.raises(InputError, match=r"label\.nii\.gz: .*up to 7 mm beside its image.*affines differ"):
        VolumePair(image, label, view).read()  # type: ignore[arg-type]
    with pytest.raises(InputError, match="up to 7 mm"):
        VolumeWithMasks(image, ((label, 1),), view).read()  # type: ignore[arg-type]


def test_a_mirrored_affine_is_another_place(tmp_path: Path, image: Path):
    label = label_file(tmp_path, np.zeros(SHAPE, np.uint8), np.diag([-2.0, 2.0, 2.0, 1.0]))
    with pytest.raises(InputError, match="affines differ"):
        VolumePair(image, label).read()


def test_rounding_of_an_affine_is_forgiven(tmp_path: Path, image: Path):
    affine = np.diag([2.0, 2.0, 2.0, 1.0]) + 1e-3
    affine[3] = [0, 0, 0, 1]
    assert VolumePair(image, label_file(tmp_path, np.ones(SHAPE, np.uint8), affine)).read().mask is not None


def test_masks_are_painted_in_order(tmp_path: Path, image: Path):
    first, second = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    first[0], second[0, :2] = 1, 255
    masks = ((write_nifti(tmp_path / "a.nii.gz", first), 4), (write_nifti(tmp_path / "b.nii.gz", second), 9))
    mask = VolumeWithMasks(image, masks).read().mask
    assert mask is not None
    assert set(mask[0, :2].ravel()) == {9}
    assert set(mask[0, 2:].ravel()) == {4}
    assert not mask[1:].any()


@pytest.mark.parametrize(("value", "shown"), [(0.5, "0.5"), (-1, "-1"), (300, "300"), (255, "255"), (np.nan, "nan")])
def test_what_is_no_label_id_is_named(tmp_path: Path, value: float, shown: str):
    labels = np.array([0, 1, value])
    with pytest.raises(InputError, match=rf"x\.png: the label map holds {shown}; label ids are whole numbers"):
        to_label_ids(labels, tmp_path / "x.png")


def test_label_ids_of_any_number_type():
    for kind in (np.float32, np.float64, np.int64, np.uint16, np.int8):
        ids = to_label_ids(np.array([[0, 3], [7, 120]]).astype(kind), Path("x"))
        assert ids.dtype == np.uint8
        assert ids.tolist() == [[0, 3], [7, 120]]
    assert to_label_ids(np.array([True, False]), Path("x")).tolist() == [1, 0]


@pytest.mark.parametrize("ignore", [255, 4, -1, 1000])
def test_the_unknown_label_can_be_any_value(ignore: int):
    stored = np.array([0, 2, ignore], np.int32)
    assert to_label_ids(stored, Path("x"), ignore).tolist() == [0, 2, IGNORE]
    assert stored.tolist() == [0, 2, ignore]


def write_h5(path: Path, **arrays: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file[key] = array
    return path


@pytest.mark.parametrize("form", ["h5", "npz"])
def test_array_files_whole_and_in_slices(tmp_path: Path, form: str):
    volume = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    label = (volume > 0.5).astype(np.float32)

    def write(name: str, **arrays: np.ndarray) -> Path:
        path = tmp_path / f"{name}.{form}"
        if form == "h5":
            return write_h5(path, **arrays)
        np.savez(path, **arrays)
        return path

    whole = ArrayFiles((write("whole", image=volume, label=label),)).read()
    stack = ArrayFiles(tuple(write(f"s{k}", image=volume[k], label=label[k]) for k in range(3))).read()
    for arrays in (whole, stack):
        assert np.array_equal(arrays.image, volume)
        assert np.array_equal(arrays.mask, label)
        assert arrays.spacing_mm is None
    one = ArrayFiles((write("one", image=volume[0], label=label[0]),)).read()
    assert one.image.shape == (1, 4, 5)
    assert ArrayFiles((write("plain", image=volume),), label_key=None).read().mask is None
    with pytest.raises(InputError, match=rf"plain\.{form}: no 'label' in the file; it holds image"):
        ArrayFiles((tmp_path / f"plain.{form}",)).read()
    with pytest.raises(InputError, match="image and label differ in shape"):
        ArrayFiles((write("odd", image=volume, label=label[:2]),)).read()
    small = write("s9", image=volume[0, :2], label=label[0, :2])
    with pytest.raises(InputError, match=rf"s9\.{form}: .*first slice of the volume"):
        ArrayFiles((tmp_path / f"s0.{form}", small)).read()
    with pytest.raises(InputError, match="expected one slice"):
        ArrayFiles((tmp_path / f"whole.{form}", tmp_path / f"s0.{form}")).read()
    content = (tmp_path / f"whole.{form}").read_bytes()
    (tmp_path / f"whole.{form}").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=rf"whole\.{form}: cannot be read as"):
        ArrayFiles((tmp_path / f"whole.{form}",)).read()
    with pytest.raises(InputError, match="there is no such file"):
        ArrayFiles((tmp_path / f"gone.{form}",)).read()


def test_pickled_objects_are_refused(tmp_path: Path):
    np.savez(tmp_path / "evil.npz", image=np.array([{"a": 1}], dtype=object), label=np.zeros((1, 1)))
    with pytest.raises(InputError, match=r"evil\.npz"):
        ArrayFiles((tmp_path / "evil.npz",)).read()


def test_pictures_with_label_maps_in_grey_and_palette(tmp_path: Path):
    ids = np.array([[0, 1], [2, 0], [1, 1]], np.uint8)
    image = write_png(tmp_path / "image.png", ids * 50)
    grey = write_png(tmp_path / "grey.png", ids)
    palette = Image.fromarray(ids, "P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    palette.save(tmp_path / "palette.png")
    for label in (grey, tmp_path / "palette.png"):
        arrays = PicturePair(image, label).read()
        assert arrays.image.shape == (1, 3, 2)
        assert arrays.image.dtype == np.uint8
        assert arrays.mask is not None
        assert np.array_equal(arrays.mask[0], ids)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (3, 2, 3), np.uint8)).save(tmp_path / "colour.png")
    with pytest.raises(InputError, match=r"colour\.png: a label map in colour"):
        PicturePair(image, tmp_path / "colour.png").read()
    with pytest.raises(InputError, match=r"wide\.png: the mask has 5 x 3 pixels"):
        PicturePair(image, write_png(tmp_path / "wide.png", np.zeros((3, 5), np.uint8))).read()
    assert PicturePair(image).read().mask is None


def test_a_deep_grey_picture_keeps_its_intensities(tmp_path: Path):
    values = np.array([[0, 700], [30_000, 65_535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert np.array_equal(PicturePair(tmp_path / "deep.png").read().image[0], values)


def test_black_and_white_masks(tmp_path: Path):
    image = write_png(tmp_path / "image.png", np.full((2, 3), 80, np.uint8))
    lungs = write_png(tmp_path / "lungs.png", np.array([[255, 255, 0], [128, 127, 0]], np.uint8))
    lesion = write_png(tmp_path / "lesion.png", np.array([[0, 255, 0], [0, 0, 0]], np.uint8))
    empty = write_png(tmp_path / "empty.png", np.zeros((2, 3), np.uint8))
    source = PictureWithMasks(image, ((lungs, 1), (lesion, 2), (empty, 3)))
    assert source.files == (image, lungs, lesion, empty)
    assert source.read().mask.tolist() == [[[1, 2, 0], [1, 0, 0]]]  # type: ignore[union-attr]
    around = PictureWithMasks(image, ((lungs, 1),), around=IGNORE).read().mask
    assert around.tolist() == [[[1, 1, 255], [1, 255, 255]]]  # type: ignore[union-attr]
    ones = write_png(tmp_path / "ones.png", np.ones((2, 3), np.uint8))
    with pytest.raises(InputError, match=r"ones\.png: a mask of the values 0 and 255 was expected, the brightest"):
        PictureWithMasks(image, ((ones, 1),)).read()
    small = write_png(tmp_path / "small.png", np.full((1, 1), 255, np.uint8))
    with pytest.raises(InputError, match=r"small\.png: the mask has 1 x 1 pixels, its image .* 3 x 2"):
        PictureWithMasks(image, ((small, 1),)).read()


def test_threads_read_the_headers_of_numpy_files_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11 up to .7 cannot parse in two threads: the header is Python (CPython issue 106905)."""
    np.savez(tmp_path / "case.npz", image=np.zeros((2, 3, 3), np.float32), label=np.zeros((2, 3, 3), np.uint8))
    at_once, most, parse = [], [], ast.literal_eval

    def slow_parse(text: str) -> object:
        at_once.append(text)
        most.append(len(at_once))
        time.sleep(0.005)
        at_once.pop()
        return parse(text)

    monkeypatch.setattr(ast, "literal_eval", slow_parse)
    with ThreadPoolExecutor(4) as pool:
        shapes = [
            arrays.image.shape for arrays in pool.map(lambda _: ArrayFiles((tmp_path / "case.npz",)).read(), range(8))
        ]
    assert shapes == [(2, 3, 3)] * 8
    assert max(most) == 1
