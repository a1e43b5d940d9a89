"""Writes a label map as a DICOM segmentation (DICOM-SEG) that lies on the frames of its DICOM source.

highdicom copies the patient and study of its source into what it writes. It is therefore given not the source itself
but a data set built from the few values that a segmentation needs, so nothing else of the header can get through.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medzeroseg.errors import OutputError
from medzeroseg.imaging.dicom_headers import PARSE_ERRORS, Frame, quiet_pydicom, read_dataset, read_frames
from medzeroseg.imaging.dicom_series import DicomSource

if TYPE_CHECKING:
    from highdicom.seg.content import SegmentDescription
    from pydicom.dataset import Dataset

_CODING_SCHEME = "99MEDZEROSEG"
_WHO = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate")
_WHO_AND_WHEN = (*_WHO, "StudyTime", "ReferringPhysicianName")
_LONGEST_LABEL = 64


def dicom_seg_bytes(
    path: Path, mask: npt.NDArray[np.uint8], source: DicomSource, label_names: Mapping[int, str], identity: str
) -> bytes:
    """Build a binary DICOM segmentation in memory, one segment a label.

    Patient and study: with `identity="remove"` the patient's name, id, birth date and sex, the accession number, the
    study's id, date, time and physician are written empty (the standard demands the elements, not values) and the
    study gets a new UID. The segmentation's own series and instance UIDs are new in every case. What is kept of the
    source are the frame of reference and the SOP class, instance and series UIDs of its images: they tie each frame
    of the mask to the frame it lies on. Someone who has the source can thus find it; whoever may not, should get a
    NIfTI or NRRD mask. With `identity="keep"` patient and study are those of the source, so that an archive files the
    mask beside it.

    Args:
        path: The file to be written, named in errors.
        mask: (D, H, W) in stored axes.
        source: The frames it lies on.
        label_names: Label id to name; labels of the mask that are not in it are named by number.
        identity: "remove" or "keep".

    Raises:
        OutputError: The source is gone, or of a kind that DICOM cannot segment (a cine loop without positions).
    """
    from highdicom.seg import Segmentation
    from pydicom.uid import generate_uid

    labels = sorted({*label_names, *np.unique(mask).tolist()} - {0}) or [1]
    table = np.zeros(256, np.uint8)
    table[labels] = np.arange(1, len(labels) + 1)  # DICOM numbers segments from 1 without gaps
    with quiet_pydicom():
        try:
            images, indices = _stripped_images(source, identity)
            count = max(len(images), int(images[0].get("NumberOfFrames", 1)))
            on_images = np.zeros((count, *mask.shape[1:]), np.uint8)
            on_images[indices] = table[mask]
            segmentation = Segmentation(
                source_images=images,
                pixel_array=on_images,
                segmentation_type="BINARY",
                segment_descriptions=_descriptions(labels, label_names),
                series_instance_uid=generate_uid(),
                series_number=1,
                sop_instance_uid=generate_uid(),
                instance_number=1,
                manufacturer="MedZeroSeg",
                manufacturer_model_name="MedZeroSeg",
                software_versions=_version(),
                device_serial_number="none",
                content_label="SEGMENTATION",
            )
            buffer = io.BytesIO()
            segmentation.save_as(buffer)
        except PARSE_ERRORS as error:
            raise OutputError(
                f"{path}: the source cannot carry a DICOM segmentation ({type(error).__name__}: it lacks places or "
                "identifiers that DICOM demands); write the mask as .nii.gz or .png instead"
            ) from None
    return buffer.getvalue()


def _stripped_images(source: DicomSource, identity: str) -> tuple[list["Dataset"], list[int]]:
    """The source images with nothing but places and references, and the image or frame of each slice of the mask."""
    from pydicom.uid import generate_uid

    paths = list(dict.fromkeys(path for path, _ in source.frames))
    first = read_dataset(paths[0], pixels=False)
    study = str(first.get("StudyInstanceUID") or "") if identity == "keep" else ""
    common = {
        "StudyInstanceUID": study or generate_uid(),
        "SeriesInstanceUID": str(first.get("SeriesInstanceUID") or "") or generate_uid(),
    }
    who = {name: (first.get(name) or "") if identity == "keep" else "" for name in _WHO_AND_WHEN}
    if identity == "keep" and first.get("SpecificCharacterSet"):
        who["SpecificCharacterSet"] = first.SpecificCharacterSet
    all_frames = {path: read_frames(path) for path in paths}
    used = [all_frames[path][number] for path, number in source.frames]
    step_mm = _step_mm(used)
    frame_of_reference = str(first.get("FrameOfReferenceUID") or "") or generate_uid()
    images = []
    for path in paths:
        original = read_dataset(path, pixels=False)
        frames = all_frames[path]
        image = _image(original, frames, used[0], step_mm)
        for name, value in (*common.items(), *who.items()):
            setattr(image, name, value)
        if used[0].position_mm is not None:
            image.FrameOfReferenceUID = frame_of_reference
        images.append(image)
    if len(images) > 1:
        return images, list(range(len(images)))
    return images, [number for _, number in source.frames]


def _image(original: "Dataset", frames: Sequence[Frame], like: Frame, step_mm: float | None) -> "Dataset":
    from pydicom.dataset import Dataset
    from pydicom.uid import generate_uid

    meta = original.file_meta
    image = Dataset()
    image.SOPClassUID = str(original.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")
    image.SOPInstanceUID = frames[0].instance or generate_uid()
    image.Modality = like.modality or "OT"
    image.Rows, image.Columns = like.rows, like.columns
    measures, orientation = Dataset(), Dataset()
    if like.spacing_mm is not None:
        measures.PixelSpacing = list(like.spacing_mm)
    measures.SliceThickness = like.thickness_mm or step_mm or 1.0
    if step_mm is not None:
        measures.SpacingBetweenSlices = step_mm
    if like.orientation is not None:
        orientation.ImageOrientationPatient = list(like.orientation)
    if len(frames) == 1 and "PerFrameFunctionalGroupsSequence" not in original:
        image.update(measures)
        image.update(orientation)
        if frames[0].position_mm is not None:
            image.ImagePositionPatient = list(frames[0].position_mm)
        return image
    image.NumberOfFrames = len(frames)
    if like.position_mm is not None:
        shared = Dataset()
        shared.PixelMeasuresSequence = [measures]
        shared.PlaneOrientationSequence = [orientation]
        image.SharedFunctionalGroupsSequence = [shared]
        image.PerFrameFunctionalGroupsSequence = [_per_frame(frame) for frame in frames]
    return image


def _per_frame(frame: Frame) -> "Dataset":
    from pydicom.dataset import Dataset

    item, position = Dataset(), Dataset()
    position.ImagePositionPatient = list(frame.position_mm or ())
    item.PlanePositionSequence = [position]
    return item


def _step_mm(frames: Sequence[Frame]) -> float | None:
    if len(frames) < 2 or frames[0].position_mm is None or frames[0].orientation is None:
        return None
    normal = np.cross(frames[0].orientation[:3], frames[0].orientation[3:])
    along = np.array([frame.position_mm for frame in frames]) @ normal
    return round(float(np.median(np.diff(along))), 6)


def _descriptions(labels: Sequence[int], names: Mapping[int, str]) -> list["SegmentDescription"]:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg.content import SegmentDescription
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    algorithm = AlgorithmIdentificationSequence(
        name="MedZeroSeg", family=codes.DCM.ArtificialIntelligence, version=_version()
    )
    described = []
    for number, label in enumerate(labels, 1):
        name = names.get(label, f"label {label}")[:_LONGEST_LABEL]
        # free text prompts have no standard code: the label id in a private scheme, with the name as its meaning
        concept: Any = Code(str(label), _CODING_SCHEME, name)
        described.append(
            SegmentDescription(
                segment_number=number,
                segment_label=name,
                segmented_property_category=codes.SCT.AnatomicalStructure,
                segmented_property_type=concept,
                algorithm_type="AUTOMATIC",
                algorithm_identification=algorithm,
            )
        )
    return described


def _version() -> str:
    from importlib.metadata import version

    return version("medzeroseg")
