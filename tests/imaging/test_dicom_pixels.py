from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from medzeroseg.imaging import InputError, read_image, read_volume
from medzeroseg.imaging.dicom_series import read_dicom_file
from tests.helpers.fake_dicom import base_dataset, slice_dataset

PIXELS = np.random.default_rng(1).integers(0, 4096, (64, 80), dtype=np.uint16)
PLACE = (0.0, 0.0, 0.0)


def saved(tmp_path: Path, dataset) -> Path:
    dataset.save_as(tmp_path / "a.dcm")
    return tmp_path / "a.dcm"


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_compressed_pixels(tmp_path: Path, syntax: str):
    dataset = slice_dataset(PIXELS, PLACE, BitsStored=12)
    dataset.compress(syntax)
    assert dataset.file_meta.TransferSyntaxUID == syntax
    volume = read_volume(saved(tmp_path, dataset))
    assert np.array_equal(volume.array[0], PIXELS.astype(int) - 1024)
    assert volume.array.dtype == np.int16


def test_jpeg_lossless_as_scanners_send_it(tmp_path: Path):
    gdcm = pytest.importorskip("gdcm", reason="python-gdcm writes the JPEG lossless file")
    plain = saved(tmp_path, slice_dataset(PIXELS, PLACE, BitsStored=12))
    reader = gdcm.ImageReader()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(tmp_path / "b.dcm"))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert JPEGLosslessSV1.encode() in (tmp_path / "b.dcm").read_bytes()
    assert np.array_equal(read_volume(tmp_path / "b.dcm").array[0], PIXELS.astype(int) - 1024)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_other_encodings(tmp_path: Path, syntax: str):
    dataset = slice_dataset(PIXELS, PLACE)
    dataset.file_meta.TransferSyntaxUID = syntax
    assert np.array_equal(read_volume(saved(tmp_path, dataset)).array[0], PIXELS.astype(int) - 1024)


def test_a_bare_data_set_without_preamble(tmp_path: Path):
    dataset = slice_dataset(PIXELS, PLACE)
    dataset.preamble, dataset.file_meta = None, FileMetaDataset()
    path = tmp_path / "a"
    dataset.save_as(path, implicit_vr=True, little_endian=True)
    assert np.array_equal(read_image(path).array[0], PIXELS.astype(int) - 1024)


@pytest.mark.parametrize(
    ("syntax", "package"),
    [(JPEG2000Lossless, "pylibjpeg-openjpeg"), (JPEGLSLossless, "pyjpegls"), (RLELossless, "pylibjpeg-rle")],
)
def test_a_missing_codec_names_the_package(tmp_path: Path, monkeypatch, syntax: str, package: str):
    dataset = slice_dataset(PIXELS, PLACE)
    dataset.compress(syntax)
    path = saved(tmp_path, dataset)
    monkeypatch.setattr(Decoder, "is_available", property(lambda self: False))
    with pytest.raises(InputError, match=f"install .*{package}"):
        read_volume(path)


def test_video_is_refused(tmp_path: Path):
    dataset = slice_dataset(PIXELS, PLACE)
    dataset.compress(RLELossless)
    dataset.file_meta.TransferSyntaxUID = MPEG2MPML
    with pytest.raises(InputError, match="cannot be read"):
        read_volume(saved(tmp_path, dataset))


def test_twelve_bits_with_a_sign(tmp_path: Path):
    signed = np.array([[-2048, -1, 0, 1, 2047]], np.int16)
    without_extension = (signed.view(np.uint16) & 0x0FFF).view(np.int16)
    for stored in (signed, without_extension):
        dataset = slice_dataset(stored, PLACE, BitsStored=12, RescaleIntercept=0)
        assert read_volume(saved(tmp_path, dataset)).array[0].tolist() == signed.tolist()


def test_overlay_bits_above_the_stored_ones_are_dropped(tmp_path: Path):
    dataset = slice_dataset(PIXELS | 0xF000, PLACE, BitsStored=12)
    assert np.array_equal(read_volume(saved(tmp_path, dataset)).array[0], PIXELS.astype(int) - 1024)


def test_monochrome1_is_shown_bright_where_it_was_dark(tmp_path: Path):
    values = {"PhotometricInterpretation": "MONOCHROME1", "Modality": "DX", "BitsStored": 12}
    window = {"WindowCenter": 1000, "WindowWidth": 400}
    volume = read_volume(saved(tmp_path, base_dataset(PIXELS, **values, **window)))
    assert np.array_equal(volume.array[0], 4095 - PIXELS)
    assert volume.window == (4095 - 1200, 4095 - 800)
    assert volume.geometry is None
    signed = np.array([[-2048, 5, 6, 2047]], np.int16)
    volume = read_volume(saved(tmp_path, base_dataset(signed, **values, RescaleSlope=2, RescaleIntercept=10)))
    assert volume.array[0].tolist() == [[2 * v + 10 for v in (2047, -6, -7, -2048)]]


def test_fractional_slopes_and_none(tmp_path: Path):
    volume = read_volume(saved(tmp_path, slice_dataset(PIXELS, PLACE, RescaleSlope=0.5, RescaleIntercept=-10)))
    assert volume.array.dtype == np.float32
    assert np.allclose(volume.array[0], PIXELS * 0.5 - 10)
    volume = read_volume(saved(tmp_path, slice_dataset(PIXELS, PLACE, RescaleSlope=None, RescaleIntercept=None)))
    assert np.array_equal(volume.array[0], PIXELS)


@pytest.mark.parametrize(
    ("centre", "width", "expected"),
    [
        (None, None, None),
        (40, 400, (-160, 240)),
        ([40, 600], [400, 1500], (-160, 240)),
        ([40, 600], [0, 1500], (-150, 1350)),
        (40, 0, None),
        (40, None, None),
    ],
)
def test_windows(tmp_path: Path, centre, width, expected):
    dataset = slice_dataset(PIXELS, PLACE, WindowCenter=centre, WindowWidth=width)
    assert read_volume(saved(tmp_path, dataset)).window == expected


@pytest.mark.parametrize("limit", [None, -1990])
def test_padding_does_not_stretch_the_range(tmp_path: Path, limit: int | None):
    stored = np.array([[-2000, 0, 50, 1000]], np.int16)
    values = {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": limit, "RescaleIntercept": 0}
    assert read_volume(saved(tmp_path, slice_dataset(stored, PLACE, **values))).array[0].tolist() == [[0, 0, 50, 1000]]


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "PALETTE COLOR"])
def test_colour(tmp_path: Path, photometric: str):
    colours = np.random.default_rng(2).integers(0, 255, (64, 80, 3), np.uint8)
    if photometric == "PALETTE COLOR":
        indices = (np.arange(5120) % 256).astype(np.uint8).reshape(64, 80)
        table = np.random.default_rng(3).integers(0, 255, (3, 256), np.uint8)
        dataset = base_dataset(indices, Modality="US", PhotometricInterpretation=photometric)
        for channel, name in enumerate(("Red", "Green", "Blue")):
            setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 8])
            setattr(dataset, f"{name}PaletteColorLookupTableData", table[channel].tobytes())
        expected = table.T[indices]
    elif photometric == "YBR_FULL":
        from pydicom.pixels.processing import convert_color_space

        stored = convert_color_space(colours, "RGB", "YBR_FULL")
        dataset, expected = base_dataset(stored, Modality="US", PhotometricInterpretation=photometric), colours
    else:
        dataset, expected = base_dataset(colours, Modality="SC"), colours
    volume = read_volume(saved(tmp_path, dataset))
    assert np.abs(volume.rgb[0].astype(int) - expected).max() <= 3
    assert volume.array.shape == (1, 64, 80)
    assert volume.window == (0, 255)


def test_a_radiograph_has_spacing_but_no_place(tmp_path: Path):
    dataset = base_dataset(PIXELS, Modality="DX", ImagerPixelSpacing=[0.2, 0.1])
    volume = read_volume(saved(tmp_path, dataset))
    assert np.isnan(volume.spacing_mm[0])
    assert volume.spacing_mm[1:] == (0.2, 0.1)
    assert volume.modality == "DX"


@pytest.mark.parametrize("kept", [0.3, 0.95])
@pytest.mark.parametrize("compressed", [False, True])
def test_truncated_pixels(tmp_path: Path, kept: float, compressed: bool):
    big = np.random.default_rng(1).integers(0, 4096, (64, 64), dtype=np.uint16)
    dataset = slice_dataset(big, PLACE)
    if compressed:
        dataset.compress(RLELossless)
    whole = saved(tmp_path, dataset).read_bytes()
    (tmp_path / "a.dcm").write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(InputError, match=r"truncated"):
        read_volume(tmp_path / "a.dcm")


def test_files_without_an_image(tmp_path: Path):
    dataset = slice_dataset(PIXELS, PLACE)
    for name in ("PixelData", "Rows", "Columns"):
        delattr(dataset, name)
    with pytest.raises(InputError, match="no image"):
        read_volume(saved(tmp_path, dataset))
    segmentation = slice_dataset(PIXELS, PLACE, SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")
    with pytest.raises(InputError, match="segmentation"):
        read_volume(saved(tmp_path, segmentation))
    (tmp_path / "empty.dcm").touch()
    with pytest.raises(InputError, match="0 bytes"):
        read_dicom_file(tmp_path / "empty.dcm")
    with pytest.raises(InputError, match="no such file"):
        read_dicom_file(tmp_path / "none.dcm")
