"""Nothing in a header that names a patient may reach a file, a message or a log."""

import contextlib
import gzip
import logging
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medzeroseg.imaging import InputError, Volume, read_image, read_volume, write_mask
from tests.helpers.fake_dicom import slice_dataset, write_series

SECRET = "Zqx"
DATE = "19310203"
PLANTED = {
    "PatientName": f"{SECRET}Name^Jane",
    "PatientID": f"{SECRET}Id",
    "PatientBirthDate": DATE,
    "OtherPatientNames": f"{SECRET}Other",
    "PatientAddress": f"{SECRET}Street",
    "PatientComments": f"{SECRET}Comment",
    "StudyDate": DATE,
    "SeriesDate": DATE,
    "AcquisitionDate": DATE,
    "ContentDate": DATE,
    "AccessionNumber": f"{SECRET}Acc",
    "StudyID": f"{SECRET}Study",
    "StudyDescription": f"{SECRET} study",
    "SeriesDescription": f"{SECRET} series",
    "ProtocolName": f"{SECRET} protocol",
    "ImageComments": f"{SECRET} image",
    "InstitutionName": f"{SECRET} clinic",
    "ReferringPhysicianName": f"{SECRET}Doctor",
    "OperatorsName": f"{SECRET}Operator",
    "StationName": f"{SECRET}Station",
    "DeviceSerialNumber": f"{SECRET}Serial",
    "PositionReferenceIndicator": f"{SECRET}Pos",
    "WindowCenterWidthExplanation": f"{SECRET}Window",
}


def assert_clean(data: bytes | str) -> None:
    content = data.encode() if isinstance(data, str) else data
    for secret in (SECRET, DATE, SECRET.lower(), SECRET.upper()):
        assert secret.encode() not in content


def watched(action, caplog, capfd) -> Volume | None:
    """Run, and search what it says, raises (with its causes) and logs."""
    result = None
    caplog.clear()  # what the test itself made pydicom say while it wrote the file
    capfd.readouterr()
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            result = action()
        except InputError as error:
            assert_clean(str(error))
            cause = error.__cause__
            while cause is not None:
                assert_clean(repr(cause))
                cause = cause.__cause__
    captured = capfd.readouterr()
    assert_clean(captured.out + captured.err + caplog.text + " ".join(str(warning.message) for warning in warned))
    return result


def write_everything(folder: Path, volume: Volume, suffixes: tuple[str, ...]) -> None:
    mask = np.ones(volume.shape, np.uint8)
    for suffix in suffixes:
        write_mask(folder / f"mask.{suffix}", mask, volume, label_names={1: "liver"})
    for path in folder.rglob("*"):
        assert_clean(path.name)
        if path.is_file():
            content = path.read_bytes()
            assert_clean(content)
            if path.suffix == ".gz":
                assert_clean(gzip.decompress(content))


def test_dicom(tmp_path: Path, caplog, capfd):
    write_series(tmp_path / "s", **PLANTED)
    assert SECRET.encode() in (tmp_path / "s" / "slice001.dcm").read_bytes()
    volume = watched(lambda: read_volume(tmp_path / "s"), caplog, capfd)
    assert_clean(repr(volume))
    assert_clean(" ".join(volume.notes))
    write_everything(tmp_path / "out", volume, ("dcm", "nii.gz", "nii", "nrrd", "mha"))
    captured = capfd.readouterr()
    assert_clean(captured.out + captured.err + caplog.text)


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.8, 0.97])
def test_truncated_dicom(tmp_path: Path, caplog, capfd, kept: float):
    write_series(tmp_path / "s", **PLANTED)
    for path in (tmp_path / "s").iterdir():
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError):
        read_volume(tmp_path / "s")
    watched(lambda: read_volume(tmp_path / "s"), caplog, capfd)
    watched(lambda: read_volume(tmp_path / "s" / "slice001.dcm"), caplog, capfd)


@pytest.mark.parametrize(
    ("tag", "vr"),
    [
        *((0x00280030, "DS"), (0x00200032, "DS"), (0x00200037, "DS"), (0x00281052, "DS"), (0x00281053, "DS")),
        *((0x00281050, "DS"), (0x00180050, "DS"), (0x00200013, "IS"), (0x00080060, "CS"), (0x00100030, "DA")),
    ],
)
def test_a_name_in_a_value_that_is_read(tmp_path: Path, caplog, capfd, tag: int, vr: str):
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    (tmp_path / "s").mkdir()
    for index in range(2):
        dataset = slice_dataset(np.zeros((8, 10), np.uint16), (0, 0, index))
        value = f"{SECRET}\\{SECRET}".encode()
        dataset[tag] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)
        dataset.save_as(tmp_path / "s" / f"{index}.dcm")
    watched(lambda: read_volume(tmp_path / "s"), caplog, capfd)


def test_mixed_series(tmp_path: Path, caplog, capfd):
    write_series(tmp_path / "s", **PLANTED)
    slice_dataset(np.zeros((4, 4), np.uint16), (0, 0, 0), **PLANTED).save_as(tmp_path / "s" / "z.dcm")
    with pytest.raises(InputError):
        read_volume(tmp_path / "s")
    watched(lambda: read_volume(tmp_path / "s"), caplog, capfd)


def test_nifti(tmp_path: Path, caplog, capfd):
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4))
    for field in ("descrip", "db_name", "aux_file", "intent_name", "data_type"):
        image.header[field] = f"{SECRET}{field}"[:10]
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", f"{SECRET} {DATE}".encode()))
    path = tmp_path / "a.nii.gz"
    image.to_filename(path)
    volume = watched(lambda: read_volume(path), caplog, capfd)
    assert_clean(repr(volume))
    write_everything(tmp_path / "out", volume, ("nii.gz", "nii", "nrrd", "mha"))
    for keep in (-30, 200):
        (tmp_path / "cut.nii.gz").write_bytes(path.read_bytes()[:keep])
        watched(lambda: read_volume(tmp_path / "cut.nii.gz"), caplog, capfd)


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_nrrd_and_mha(tmp_path: Path, caplog, capfd, suffix: str):
    image = sitk.GetImageFromArray(np.zeros((4, 5, 6), np.int16))
    for key in ("PatientName", "Comment", "AnatomicalOrientationText"):
        image.SetMetaData(key, f"{SECRET} {DATE}")
    path = tmp_path / f"a.{suffix}"
    sitk.WriteImage(image, str(path))
    assert SECRET.encode() in path.read_bytes()
    volume = watched(lambda: read_volume(path), caplog, capfd)
    assert_clean(repr(volume))
    write_everything(tmp_path / "out", volume, ("nii.gz", "nrrd", "mha"))
    path.write_bytes(path.read_bytes()[:-50])
    watched(lambda: read_volume(path), caplog, capfd)


def test_pictures(tmp_path: Path, caplog, capfd):
    from PIL import Image, PngImagePlugin

    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", f"{SECRET} {DATE}")
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path, pnginfo=text)
    volume = watched(lambda: read_image(path), caplog, capfd)
    assert_clean(repr(volume))
    write_everything(tmp_path / "out", volume, ("png", "nii.gz"))
    path.write_bytes(path.read_bytes()[:-30])
    with contextlib.suppress(InputError):
        read_image(path)
    watched(lambda: read_image(path), caplog, capfd)
