"""Plants what would identify a patient into headers, and searches outputs for it."""

from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

SECRETS = ("DOE^JOHN", "SECRET-4711", "19471224")


def plant_in_nifti(path: Path) -> None:
    """Put the secrets into every free text of a NIfTI header."""
    image = nib.load(path)
    header = image.header
    header["descrip"], header["db_name"], header["aux_file"] = SECRETS[0], SECRETS[1], SECRETS[2]
    header["intent_name"] = SECRETS[0]
    header.extensions.append(nib.nifti1.Nifti1Extension("comment", SECRETS[0].encode()))
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, header), path)


def plant_in_jpeg(path: Path) -> None:
    """Put the secrets into a JPEG's comment and EXIF fields (description, artist, date)."""
    with Image.open(path) as picture:
        exif = Image.Exif()
        exif[0x010E], exif[0x013B], exif[0x0132] = SECRETS
        picture.copy().save(path, quality=95, exif=exif, comment=SECRETS[0].encode())


def holders(paths: Iterable[Path], text: str = "") -> list[str]:
    """Where a secret stands: the files that hold one in their bytes or their name, and `text` itself."""
    found = []
    for path in paths:
        content = path.read_bytes() if path.is_file() else b""
        if any(secret.encode() in content or secret in path.name for secret in SECRETS):
            found.append(str(path))
    return found + ["text"] * any(secret in text for secret in SECRETS)
