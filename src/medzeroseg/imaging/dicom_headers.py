"""What the readers need of DICOM headers: place, scale and kind of each frame, and nothing about the patient.

pydicom is used directly: MONAI's DICOM reader carries the whole header in the metadata, where the patient's name is.
"""

import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydicom.errors import BytesLengthException, InvalidDicomError

from medzeroseg.imaging.errors import InputError
from medzeroseg.imaging.files import read_bytes
from medzeroseg.imaging.picture import MAX_PIXELS

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

PARSE_ERRORS = (
    *(OSError, EOFError, ValueError, KeyError, AttributeError, TypeError, IndexError, RuntimeError),
    *(NotImplementedError, struct.error, zlib.error, BytesLengthException, InvalidDicomError),
)
"""What pydicom raises for damaged files depends on the place of the damage. Its texts repeat header values, so they
are never passed on."""

_SMALLEST_FRAME_BYTES = 8
"""A compressed frame has at least an item tag and its length."""
_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"


@dataclass(frozen=True)
class Frame:
    """One picture of a DICOM file.

    Attributes:
        path: Its file.
        number: Its place in the file, from 0.
        rows: Height in pixels.
        columns: Width in pixels.
        samples: Values a pixel: 1 grey, 3 colour.
        modality: "CT", "MR", ...; "" where not said.
        series: The series' UID; never shown.
        instance: The file's SOP instance UID; never shown.
        instance_number: The scanner's count, for ties only.
        localizer: Whether it is a planning scout.
        multi_frame: Whether its file holds several.
        position_mm: Centre of the first pixel, in LPS axes.
        orientation: Direction cosines of a row, then of a column.
        spacing_mm: Between rows, between columns.
        thickness_mm: Slice spacing, else slice thickness, as the header says.
        slope: Rescale slope.
        intercept: Rescale intercept.
        window: (low, high) of the first usable window.
    """

    path: Path
    number: int
    rows: int
    columns: int
    samples: int
    modality: str
    series: str = field(repr=False)
    instance: str = field(repr=False)
    instance_number: int
    localizer: bool
    multi_frame: bool
    position_mm: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing_mm: tuple[float, float] | None
    thickness_mm: float | None
    slope: float
    intercept: float
    window: tuple[float, float] | None


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom and highdicom from warning and logging: their messages repeat header values."""
    from pydicom import config

    loggers = [logging.getLogger("pydicom"), logging.getLogger("highdicom")]
    levels = [logger.level for logger in loggers]
    mode = config.settings.reading_validation_mode
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        config.settings.reading_validation_mode = config.IGNORE
        try:
            yield
        finally:
            config.settings.reading_validation_mode = mode
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def read_dataset(path: Path, *, pixels: bool) -> "Dataset":
    """Parse a DICOM file; call it, and use what it returns, within `quiet_pydicom`.

    Raises:
        InputError: The file is missing, empty, or no DICOM file.
    """
    import pydicom
    from pydicom import uid

    read_bytes(path, 1)
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=not pixels, force=True)
        if "TransferSyntaxUID" not in dataset.file_meta:  # a bare data set, without preamble and meta header
            implicit, little = dataset.original_encoding
            known = {(True, True): uid.ImplicitVRLittleEndian, (False, True): uid.ExplicitVRLittleEndian}
            dataset.file_meta.TransferSyntaxUID = known.get((bool(implicit), bool(little)), uid.ExplicitVRBigEndian)
    except PARSE_ERRORS:
        raise InputError(f"{path}: the DICOM file is damaged or truncated; fetch or export it again") from None
    return dataset


def read_frames(path: Path) -> list[Frame]:
    """Read the header of every frame in a file, without decoding pixels.

    Returns:
        The frames as stored; none where the file holds no image (a report, a plan, a DICOMDIR).

    Raises:
        InputError: The file is no DICOM file, is damaged, or is a segmentation.
    """
    with quiet_pydicom():
        dataset = read_dataset(path, pixels=False)
        try:
            if str(dataset.get("SOPClassUID", "")) == _SEGMENTATION_STORAGE:
                raise InputError(f"{path}: this is a DICOM segmentation, not an image; give the image it was made on")
            if not all(name in dataset for name in ("Rows", "Columns", "BitsAllocated")):
                return []
            count = int(dataset.get("NumberOfFrames", 1) or 1)
            if not 1 <= count <= max(1, path.stat().st_size // _SMALLEST_FRAME_BYTES):
                raise InputError(f"{path}: the DICOM header gives an impossible number of frames; export it again")
            return [_frame(path, dataset, number) for number in range(count)]
        except PARSE_ERRORS:
            raise InputError(f"{path}: a value in the DICOM header is damaged; export the file again") from None


def _frame(path: Path, dataset: "Dataset", number: int) -> Frame:
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if rows < 1 or columns < 1:
        raise InputError(f"{path}: the DICOM header gives a picture of {rows} x {columns} pixels; export it again")
    if rows * columns > MAX_PIXELS:
        raise InputError(f"{path}: the picture has {columns} x {rows} pixels, over the limit of {MAX_PIXELS:,}")
    measures = _group(dataset, number, "PixelMeasuresSequence")
    spacing = _numbers(measures, "PixelSpacing", 2) or _numbers(dataset, "ImagerPixelSpacing", 2)
    if spacing is not None and min(spacing) <= 0:
        raise InputError(f"{path}: the pixel spacing in the DICOM header is not positive; repair the header")
    scale = _group(dataset, number, "PixelValueTransformationSequence")
    thickness = _numbers(measures, "SpacingBetweenSlices", 1) or _numbers(measures, "SliceThickness", 1)
    meta = dataset.file_meta
    return Frame(
        path=path,
        number=number,
        rows=rows,
        columns=columns,
        samples=int(dataset.get("SamplesPerPixel", 1) or 1),
        modality=_code(dataset.get("Modality")),
        series=str(dataset.get("SeriesInstanceUID") or ""),
        instance=str(dataset.get("SOPInstanceUID") or meta.get("MediaStorageSOPInstanceUID") or ""),
        instance_number=int(dataset.get("InstanceNumber") or 0),
        localizer=any(str(word).upper() == "LOCALIZER" for word in _image_type(dataset, number)),
        multi_frame=int(dataset.get("NumberOfFrames", 1) or 1) > 1,
        position_mm=_numbers(_group(dataset, number, "PlanePositionSequence"), "ImagePositionPatient", 3),
        orientation=_numbers(_group(dataset, number, "PlaneOrientationSequence"), "ImageOrientationPatient", 6),
        spacing_mm=None if spacing is None else (spacing[0], spacing[1]),
        thickness_mm=abs(thickness[0]) if thickness and thickness[0] else None,
        slope=(_numbers(scale, "RescaleSlope", 1) or (1.0,))[0],
        intercept=(_numbers(scale, "RescaleIntercept", 1) or (0.0,))[0],
        window=_window(_group(dataset, number, "FrameVOILUTSequence")),
    )


def _group(dataset: "Dataset", number: int, keyword: str) -> "Dataset":
    """The functional group of a frame in an enhanced file; in a classic file the data set itself."""
    for holder, index in (("PerFrameFunctionalGroupsSequence", number), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(holder)
        if items and index < len(items) and items[index].get(keyword):
            group: Dataset = items[index].get(keyword)[0]
            return group
    return dataset


def _numbers(dataset: "Dataset", keyword: str, count: int) -> tuple[float, ...] | None:
    """The first `count` numbers of an element; None where it is missing, empty or short."""
    values = _several(dataset.get(keyword))
    return tuple(float(value) for value in values[:count]) if len(values) >= count else None


def _several(value: Any) -> list[Any]:  # noqa: ANN401 - pydicom's values have many types
    from pydicom.multival import MultiValue

    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def _window(dataset: "Dataset") -> tuple[float, float] | None:
    centres, widths = _several(dataset.get("WindowCenter")), _several(dataset.get("WindowWidth"))
    for centre, width in zip(centres, widths, strict=False):
        if float(width) > 0:
            return float(centre) - float(width) / 2, float(centre) + float(width) / 2
    return None


def _image_type(dataset: "Dataset", number: int) -> list[Any]:
    words = _several(dataset.get("ImageType"))
    for keyword in ("CTImageFrameTypeSequence", "MRImageFrameTypeSequence"):
        words += _several(_group(dataset, number, keyword).get("FrameType"))
    return words


def _code(value: Any) -> str:  # noqa: ANN401
    """A modality code; anything longer than a code string is not one and could hold a name."""
    text = str(value or "").strip().upper()
    return text if len(text) <= 4 and text.isalnum() else ""
