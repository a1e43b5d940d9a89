"""Whatever bytes are damaged, reading ends in a volume or in a sentence: no other error, no crash, no hang."""

import contextlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from medzeroseg.imaging import InputError, read_image, read_volume
from medzeroseg.imaging.dicom_pixels import _plugin
from tests.helpers.fake_dicom import enhanced_dataset, slice_dataset

PIXELS = np.random.default_rng(0).integers(0, 4096, (64, 80), dtype=np.uint16)


def whole_file(path: Path, kind: str) -> None:
    if kind == "nifti":
        nib.Nifti1Image(PIXELS[None].astype(np.int16), np.eye(4)).to_filename(path)
    elif kind == "enhanced":
        enhanced_dataset(PIXELS[:16].reshape(4, 16, 20).copy(), [(0, 0, 3.0 * n) for n in range(4)]).save_as(path)
    else:
        dataset = slice_dataset(PIXELS, (0, 0, 0), WindowCenter=[40, 50], WindowWidth=[400, 300])
        if kind != "plain":
            dataset.compress({"rle": RLELossless, "jpeg2000": JPEG2000Lossless, "jpegls": JPEGLSLossless}[kind])
        dataset.save_as(path)


@pytest.mark.parametrize("kind", ["nifti", "plain", "enhanced", "rle", "jpeg2000", "jpegls"])
def test_damaged_bytes(tmp_path: Path, kind: str):
    path = tmp_path / ("a.nii" if kind == "nifti" else "a.dcm")
    whole_file(path, kind)
    whole, rng = path.read_bytes(), np.random.default_rng(2)
    for case in range(40):
        damaged = bytearray(whole)
        for place in rng.integers(0, min(len(whole), 1500), 4):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged[: rng.integers(1, len(whole))] if case % 5 == 0 else damaged)
        with contextlib.suppress(InputError):
            assert np.isfinite(read_image(path).array).all()


@pytest.mark.parametrize("frames", [-1, 10**9])
def test_an_impossible_number_of_frames_is_refused_at_once(tmp_path: Path, frames: int):
    slice_dataset(PIXELS, (0, 0, 0), NumberOfFrames=frames).save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match="number of frames"):
        read_volume(tmp_path / "a.dcm")


def test_a_picture_too_large_is_refused_before_it_is_decoded(tmp_path: Path):
    dataset = slice_dataset(PIXELS, (0, 0, 0))
    dataset.compress(RLELossless)
    dataset.Rows = dataset.Columns = 60_000
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match="over the limit"):
        read_volume(tmp_path / "a.dcm")


def test_gdcm_decodes_only_what_nothing_else_can(monkeypatch):
    dataset = slice_dataset(PIXELS, (0, 0, 0))
    dataset.compress(JPEGLSLossless)
    monkeypatch.setattr(Decoder, "available_plugins", property(lambda self: ("gdcm", "pyjpegls")))
    assert _plugin(dataset) == "pyjpegls"
    monkeypatch.setattr(Decoder, "available_plugins", property(lambda self: ("gdcm",)))
    assert _plugin(dataset) == "gdcm"
