"""Writes small, real DICOM files: classic slices, radiographs, enhanced multi-frame scans."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

STUDY = generate_uid(entropy_srcs=["study"])
SERIES = generate_uid(entropy_srcs=["series"])
FRAME_OF_REFERENCE = generate_uid(entropy_srcs=["frame of reference"])


def base_dataset(pixels: np.ndarray, sop_class: str = CTImageStorage, **values: Any) -> FileDataset:
    """An uncompressed data set around (rows, columns[, 3]) or (frames, rows, columns) pixels; None removes a value."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = sop_class
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, SERIES
    dataset.PatientName = dataset.PatientID = dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.StudyDate = dataset.StudyTime = dataset.StudyID = dataset.AccessionNumber = ""
    dataset.Modality = "CT"
    colour = pixels.shape[-1] == 3
    frames = pixels.shape[0] if pixels.ndim == 3 and not colour else 1
    if frames > 1:
        dataset.NumberOfFrames = frames
    dataset.Rows, dataset.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    dataset.SamplesPerPixel = 3 if colour else 1
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    _assign(dataset, values)
    dataset.HighBit = dataset.BitsStored - 1
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def _assign(dataset: Dataset, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if value is not None:
            setattr(dataset, name, value)
        elif name in dataset:
            delattr(dataset, name)


def slice_dataset(pixels: np.ndarray, position: Any, **values: Any) -> FileDataset:
    """One CT slice, axial unless told otherwise."""
    placed = {
        "ImagePositionPatient": [float(value) for value in position],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.5, 0.75],
        "SliceThickness": 2.0,
        "FrameOfReferenceUID": FRAME_OF_REFERENCE,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
    }
    return base_dataset(pixels, **{**placed, **values})


def write_series(folder: Path, count: int = 5, *, step_mm: float = 2.0, size: int = 8, **values: Any) -> np.ndarray:
    """Axial slices from the feet up, named and numbered from the head down; returns HU (count, size, size + 2)."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = np.random.default_rng(7).integers(0, 3000, (count, size, size + 2), dtype=np.uint16)
    for index in range(count):
        name = folder / f"slice{count - index:03d}.dcm"
        position = (-10.0, -20.0, -100.0 + step_mm * index)
        slice_dataset(stored[index], position, **{"InstanceNumber": count - index, **values}).save_as(name)
    return stored.astype(np.int16) - 1024


def enhanced_dataset(pixels: np.ndarray, positions: list[Any], **values: Any) -> FileDataset:
    """A multi-frame CT with functional groups; frame n lies at `positions[n]`."""
    dataset = base_dataset(pixels, EnhancedCTImageStorage, FrameOfReferenceUID=FRAME_OF_REFERENCE, **values)
    shared, measures, orientation, scale = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.75], 2.0
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = 2, -1000, "HU"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    shared.PixelValueTransformationSequence = [scale]
    dataset.SharedFunctionalGroupsSequence = [shared]
    items = []
    for place in positions:
        item, position = Dataset(), Dataset()
        position.ImagePositionPatient = [float(value) for value in place]
        item.PlanePositionSequence = [position]
        items.append(item)
    dataset.PerFrameFunctionalGroupsSequence = items
    return dataset
