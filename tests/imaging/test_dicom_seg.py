from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from medzeroseg.errors import OutputError
from medzeroseg.imaging import Volume, read_volume, to_display, write_mask
from tests.helpers.fake_dicom import (
    FRAME_OF_REFERENCE,
    SERIES,
    STUDY,
    base_dataset,
    enhanced_dataset,
    slice_dataset,
    write_series,
)

NAMES = {1: "liver", 6: "left kidney"}


def labels_like(volume: Volume) -> np.ndarray:
    mask = np.random.default_rng(0).choice([0, 1, 6, 9], volume.shape).astype(np.uint8)
    mask[1] = 0  # a slice without a label
    return mask


def frames_by_place(path: Path) -> dict[tuple[str, int, tuple[float, ...]], np.ndarray]:
    """(source instance, source frame, position) and segment label -> frame, by pydicom and highdicom's reader."""
    segmentation = highdicom.seg.segread(path)
    found = {}
    for frame, item in zip(segmentation.pixel_array, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        holder = item if "SegmentIdentificationSequence" in item else shared(path)  # shared by a single segment
        number = holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        label = segmentation.SegmentSequence[number - 1].SegmentLabel
        image = item.DerivationImageSequence[0].SourceImageSequence[0]
        position = tuple(float(value) for value in item.PlanePositionSequence[0].ImagePositionPatient)
        source = (str(image.ReferencedSOPInstanceUID), int(image.get("ReferencedFrameNumber", 1)))
        found[(label, *source, position)] = frame
    return found


def shared(path: Path) -> pydicom.Dataset:
    return pydicom.dcmread(path).SharedFunctionalGroupsSequence[0]


@pytest.mark.parametrize("tilt_degrees", [0, 12])
def test_each_frame_lies_on_its_source_frame(tmp_path: Path, tilt_degrees: float):
    angle = np.radians(tilt_degrees)
    orientation = [1, 0, 0, 0, float(np.cos(angle)), float(-np.sin(angle))]
    write_series(tmp_path / "s", ImageOrientationPatient=orientation)
    volume = read_volume(tmp_path / "s")
    view = to_display(volume, "coronal")
    mask = labels_like(volume)
    write_mask(tmp_path / "seg.dcm", view.layout.apply(mask), view, label_names=NAMES)
    found = frames_by_place(tmp_path / "seg.dcm")
    expected = {}
    for path in (tmp_path / "s").iterdir():
        source = pydicom.dcmread(path)
        position = tuple(float(value) for value in source.ImagePositionPatient)
        index = round((position[2] + 100) / 2)
        for label, name in {**NAMES, 9: "label 9"}.items():
            if index != 1:
                expected[(name, str(source.SOPInstanceUID), 1, position)] = mask[index] == label
    assert found.keys() == expected.keys()
    for key, frame in found.items():
        assert np.array_equal(frame, expected[key])
    measures = shared(tmp_path / "seg.dcm").PixelMeasuresSequence[0]
    assert list(measures.PixelSpacing) == [0.5, 0.75]
    assert measures.SliceThickness == 2
    got = shared(tmp_path / "seg.dcm").PlaneOrientationSequence[0].ImageOrientationPatient
    assert np.allclose(got, orientation)


def test_highdicom_rebuilds_the_same_volume(tmp_path: Path):
    write_series(tmp_path / "s")
    volume = read_volume(tmp_path / "s")
    mask = (labels_like(volume) == 6).astype(np.uint8)
    write_mask(tmp_path / "seg.dcm", mask, volume, label_names={1: "left kidney"})
    segmentation = highdicom.seg.segread(tmp_path / "seg.dcm")
    assert segmentation.FrameOfReferenceUID == FRAME_OF_REFERENCE
    rebuilt = segmentation.get_volume(combine_segments=True)
    # highdicom stacks in its own direction: compare every labelled voxel's place
    ours = np.argwhere(mask) @ volume.geometry.affine_ras_mm[:3, :3].T + volume.geometry.affine_ras_mm[:3, 3]
    theirs = np.argwhere(rebuilt.array) @ rebuilt.affine[:3, :3].T + rebuilt.affine[:3, 3]
    theirs = theirs * [-1, -1, 1]
    assert np.allclose(np.unique(ours.round(3), axis=0), np.unique(theirs.round(3), axis=0))


def test_segments_carry_the_label_names(tmp_path: Path):
    write_series(tmp_path / "s")
    volume = read_volume(tmp_path / "s")
    write_mask(tmp_path / "seg.dcm", np.zeros(volume.shape, np.uint8), volume, label_names=NAMES)
    segments = highdicom.seg.segread(tmp_path / "seg.dcm").SegmentSequence
    assert [item.SegmentLabel for item in segments] == ["liver", "left kidney"]
    assert [item.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for item in segments] == ["liver", "left kidney"]
    assert [item.SegmentedPropertyTypeCodeSequence[0].CodeValue for item in segments] == ["1", "6"]
    assert {item.SegmentAlgorithmType for item in segments} == {"AUTOMATIC"}


def test_enhanced_source(tmp_path: Path):
    pixels = np.zeros((4, 8, 10), np.uint16)
    order = [2, 0, 3, 1]
    source = enhanced_dataset(pixels, [(0, 0, 3.0 * index) for index in order])
    source.save_as(tmp_path / "a.dcm")
    volume = read_volume(tmp_path / "a.dcm")
    mask = np.zeros(volume.shape, np.uint8)
    for index in range(4):
        mask[index, index] = 1
    write_mask(tmp_path / "seg.dcm", mask, volume, label_names={1: "liver"})
    found = frames_by_place(tmp_path / "seg.dcm")
    uid = str(source.SOPInstanceUID)
    assert found.keys() == {("liver", uid, number + 1, (0.0, 0.0, 3.0 * index)) for number, index in enumerate(order)}
    for (_, _, _, position), frame in found.items():
        assert np.array_equal(frame, mask[round(position[2] / 3)])


def test_a_radiograph_is_referenced_by_its_image(tmp_path: Path):
    pixels = np.zeros((8, 10), np.uint16)
    source = base_dataset(pixels, "1.2.840.10008.5.1.4.1.1.1.1", Modality="DX")
    source.save_as(tmp_path / "a.dcm")
    volume = read_volume(tmp_path / "a.dcm")
    mask = np.zeros(volume.shape, np.uint8)
    mask[0, 2:5] = 1
    write_mask(tmp_path / "seg.dcm", mask, volume, label_names={1: "lung"})
    segmentation = highdicom.seg.segread(tmp_path / "seg.dcm")
    assert np.array_equal(segmentation.pixel_array.reshape(8, 10), mask[0])
    assert segmentation.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    write_mask(tmp_path / "mask.png", mask, volume)


def test_identifiers_that_anonymising_emptied_do_not_matter(tmp_path: Path):
    empty = dict.fromkeys(("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "SOPClassUID"), "")
    for index in range(3):
        dataset = slice_dataset(np.zeros((8, 10), np.uint16), (0, 0, index))
        for name, value in empty.items():
            setattr(dataset, name, value)
        dataset.save_as(tmp_path / f"{index}.dcm", enforce_file_format=False)
    volume = read_volume(tmp_path)
    write_mask(tmp_path / "seg.dcm", np.ones(volume.shape, np.uint8), volume)
    assert len(frames_by_place(tmp_path / "seg.dcm")) == 3


def test_a_cine_loop_cannot_be_segmented_in_dicom(tmp_path: Path):
    frames = np.zeros((4, 8, 10), np.uint8)
    base_dataset(frames, "1.2.840.10008.5.1.4.1.1.3.1", Modality="US").save_as(tmp_path / "a.dcm")
    volume = read_volume(tmp_path / "a.dcm")
    with pytest.raises(OutputError, match=r"nii\.gz"):
        write_mask(tmp_path / "seg.dcm", frames, volume)
    assert not (tmp_path / "seg.dcm").exists()


def test_identity_is_kept_only_when_asked_for(tmp_path: Path):
    write_series(tmp_path / "s", PatientName="Doe^John", PatientID="id77", StudyID="study5", StudyDate="19990102")
    volume = read_volume(tmp_path / "s")
    mask = np.ones(volume.shape, np.uint8)
    write_mask(tmp_path / "keep.dcm", mask, volume, identity="keep")
    write_mask(tmp_path / "remove.dcm", mask, volume)
    keep, remove = pydicom.dcmread(tmp_path / "keep.dcm"), pydicom.dcmread(tmp_path / "remove.dcm")
    assert (str(keep.PatientName), keep.PatientID, keep.StudyID) == ("Doe^John", "id77", "study5")
    assert (keep.StudyDate, keep.StudyInstanceUID) == ("19990102", STUDY)
    for name in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyID", "AccessionNumber"):
        assert not remove.get(name), name
    assert remove.StudyInstanceUID != STUDY
    assert SERIES not in (keep.SeriesInstanceUID, remove.SeriesInstanceUID)
    assert keep.SOPInstanceUID != remove.SOPInstanceUID
