"""A folder of image files and the captions that name them: who finds whom, and who stays alone."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data_modules.base import BadInput
from data_modules.screening import some
from medzeroseg.imaging import InputError

# Later ones win, so that an owner's .jpg is used where a copy holds several forms of one image.
_SUFFIXES = (".png", ".jpeg", ".jpg")


@dataclass(frozen=True)
class ImageFolder:
    """The image files of a folder by their name without its ending.

    Attributes:
        path: The folder.
        files: Name without ending to file, for files that hold something.
        empty: Names of the files with zero bytes.
    """

    path: Path
    files: dict[str, Path]
    empty: frozenset[str]


def list_images(folder: Path, *, leave_out_empty: bool = False) -> ImageFolder:
    """List a folder of PNG and JPEG files once, without a `Path` or a call to the file system for each.

    Args:
        folder: The folder; what lies deeper is not seen.
        leave_out_empty: Ask for each file's size, too, and set those of zero bytes apart.

    Raises:
        InputError: The folder cannot be listed.
    """
    found: dict[str, tuple[int, str]] = {}
    empty = set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, suffix = os.path.splitext(entry.name)  # noqa: PTH122 - a Path each would take most of the time
                rank = _SUFFIXES.index(suffix.lower()) if suffix.lower() in _SUFFIXES else -1
                if rank < 0 or (stem in found and found[stem][0] > rank):
                    continue
                if leave_out_empty and entry.stat().st_size == 0:
                    empty.add(stem)
                    continue
                found[stem] = (rank, entry.name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror})") from error
    return ImageFolder(
        folder, {stem: folder / name for stem, (_, name) in found.items()}, frozenset(empty - found.keys())
    )


def count_unpaired(
    title: str, captions: Mapping[str, str], images: ImageFolder, missing: BadInput, how_to_get: str
) -> dict[str, int]:
    """Count the captions without an image and the images without a caption.

    Args:
        title: The dataset's name in messages.
        captions: Image id (its file's name without ending) to caption.
        images: The files that are there.
        missing: "error" stops at a caption without an image, "skip" only where no caption has one.
        how_to_get: What to tell who lacks images.

    Returns:
        Reason -> how many, as `SplitIndex.skipped` holds them.

    Raises:
        InputError: Images are missing; says how many, some of their ids, and what to do.
    """
    without_image = [image_id for image_id in captions if image_id not in images.files]
    if without_image and (missing == "error" or len(without_image) == len(captions)):
        advice = "fetch them" if missing == "skip" else "fetch them, or leave them out with missing=skip"
        raise InputError(
            f"{title}: {len(without_image):,} of {len(captions):,} captions have no image in {images.path} "
            f"({some(without_image)}); {advice}. {how_to_get}"
        )
    empty = sum(image_id in images.empty for image_id in without_image)
    return {
        "captions without an image": len(without_image) - empty,
        "captions whose image file is empty": empty,
        "images without a caption": len(images.files.keys() - captions.keys()),
    }
