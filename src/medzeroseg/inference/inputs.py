"""Finds what is to be segmented: files, DICOM series, and folders of both."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medzeroseg.imaging.errors import InputError
from medzeroseg.imaging.files import read_bytes
from medzeroseg.imaging.sniffing import looks_like_dicom

RESULT_NAME = "result.json"
"""What marks a folder as a result of ours; such folders are never taken for inputs."""
_ENDINGS = (
    *(".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".dcm", ".ima"),
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp"),
)
_DICOM_HEAD_BYTES = 132


@dataclass(frozen=True)
class FoundInput:
    """One image.

    Attributes:
        path: A file, or the folder of a DICOM series.
        name: Of its folder of results; no two inputs share one.
    """

    path: Path
    name: str


def find_inputs(paths: Sequence[Path]) -> tuple[list[FoundInput], int]:
    """List the images behind what a user names.

    A file is one image, whatever its ending. A folder with DICOM slices is one series, unless its files have no place
    in the patient (radiographs): then each is an image. Any other folder is looked through, subfolders only for DICOM
    series. Hidden files and files that neither end like an image nor are DICOM are left out.

    Args:
        paths: Files and folders.

    Returns:
        The images, in the order given and, within a folder, by name; and how many other files were left out.

    Raises:
        InputError: A path does not exist or cannot be listed, or a folder holds no image.
    """
    found: list[Path] = []
    others = 0
    for path in paths:
        if path.is_dir():
            images, left_out = _in_folder(path)
            others += left_out
            if not images:
                raise InputError(f"{path}: the folder holds no image (known: DICOM, {', '.join(_ENDINGS)})")
            found += images
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"{path}: there is no such file or folder")
    return _named(list(dict.fromkeys(found))), others


def stem(path: Path) -> str:
    """A file's name without the ending of an image format."""
    name = path.name or path.resolve().name
    ending = next((ending for ending in _ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)] or name


def _in_folder(folder: Path) -> tuple[list[Path], int]:
    files, folders = _list(folder)
    dicom = [path for path in files if _is_dicom(path)]
    if dicom and not _lies_nowhere(dicom[0]):
        return [folder], 0
    readable = set(dicom)
    images = [path for path in files if path in readable or path.name.lower().endswith(_ENDINGS)]
    others = len(files) - len(images)
    for inner in folders:
        inner_files, _ = _list(inner)
        if (inner / RESULT_NAME).exists():
            continue
        slices = [path for path in inner_files if _is_dicom(path)]
        if slices:
            images += slices if _lies_nowhere(slices[0]) else [inner]
    return images, others


def _list(folder: Path) -> tuple[list[Path], list[Path]]:
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: the folder cannot be read ({error.strerror})") from error
    return [path for path in entries if not path.is_dir()], [path for path in entries if path.is_dir()]


def _is_dicom(path: Path) -> bool:
    if path.name.upper() == "DICOMDIR":
        return False
    try:
        return looks_like_dicom(read_bytes(path, _DICOM_HEAD_BYTES))
    except InputError:  # unreadable: told apart by its ending, and named when its turn comes
        return False


def _lies_nowhere(path: Path) -> bool:
    """Whether a DICOM file is a picture by itself: an image without a position."""
    from medzeroseg.imaging.dicom_headers import read_frames

    try:
        frames = read_frames(path)
    except InputError:
        return False
    return bool(frames) and frames[0].position_mm is None


def _named(paths: Sequence[Path]) -> list[FoundInput]:
    found = [FoundInput(path, stem(path)) for path in paths]
    # a.png and a.jpg become a_png and a_jpg; the same file name in two folders is counted
    often = Counter(one.name for one in found)
    found = [replace(one, name=one.path.name.replace(".", "_")) if often[one.name] > 1 else one for one in found]
    taken: Counter[str] = Counter()
    named = []
    for one in found:
        taken[one.name] += 1
        named.append(one if taken[one.name] == 1 else replace(one, name=f"{one.name}_{taken[one.name]}"))
    return named
