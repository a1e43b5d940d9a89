"""Reads and writes NRRD and MetaImage (.nrrd, .nhdr, .mha, .mhd) through SimpleITK.

MONAI reads these through the same library; its reader keeps the whole header in the metadata, where a name may be.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medzeroseg.errors import OutputError
from medzeroseg.imaging.errors import InputError
from medzeroseg.imaging.files import read_bytes
from medzeroseg.imaging.geometry import LPS_TO_RAS, Geometry
from medzeroseg.imaging.scaling import finite_float32
from medzeroseg.imaging.volume import Source, Volume

WRITABLE = (".nrrd", ".mha")


@dataclass(frozen=True)
class ItkSource(Source):
    """ITK's placing of a grid, in its own LPS axes and (i, j, k) order.

    Attributes:
        size: (i, j, k), or (i, j) of a picture.
        origin_mm: Position of voxel 0.
        spacing_mm: Distance between voxels along i, j, k.
        direction: Direction cosines, row by row.
    """

    size: tuple[int, ...]
    origin_mm: tuple[float, ...]
    spacing_mm: tuple[float, ...]
    direction: tuple[float, ...]


def read_itk(path: Path | str, *, volume_index: int | None = None) -> Volume:
    """Read a NRRD or MetaImage file.

    Args:
        path: The file; a header with its data in a second file (.nhdr, .mhd) is followed.
        volume_index: Which volume of a 4-D file, from 0.

    Returns:
        The volume, axes (k, j, i) of the file; a 2-D file has D = 1 and no geometry.

    Raises:
        InputError: The file is missing, damaged, no such file; has several components a voxel; or is 4-D without
            `volume_index`.
    """
    import SimpleITK as sitk  # noqa: N813 - the name under which the library is known

    path = Path(path)
    read_bytes(path, 1)
    quiet: Any = sitk.ProcessObject
    quiet.GlobalWarningDisplayOff()  # ITK's warnings repeat header lines
    try:
        image: Any = sitk.ReadImage(str(path), imageIO="NrrdImageIO" if _is_nrrd(path) else "MetaImageIO")
    except RuntimeError:  # its text repeats header lines
        raise InputError(
            f"{path}: the file is damaged or truncated, or its data file is not beside it; fetch or export it again"
        ) from None
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{path}: the file has several values a voxel (colour, vectors); convert it to one grey value")
    if image.GetDimension() == 4:
        count = image.GetSize()[3]
        if volume_index is None and count != 1:
            raise InputError(f"{path}: the file holds {count} volumes; choose one with volume_index=0 to {count - 1}")
        if not 0 <= (volume_index or 0) < count:
            raise InputError(f"{path}: volume_index={volume_index} is not in the file, which holds {count} volumes")
        image = image[:, :, :, volume_index or 0]
    elif volume_index not in (None, 0):
        raise InputError(f"{path}: volume_index={volume_index} is not in the file, which holds one volume")
    source = ItkSource(image.GetSize(), image.GetOrigin(), image.GetSpacing(), image.GetDirection())
    values = sitk.GetArrayFromImage(image)
    if values.dtype.kind not in "iuf":
        raise InputError(f"{path}: the file holds no intensities (complex numbers); convert it to integers or float32")
    try:
        values, replaced = finite_float32(values)
    except ValueError:
        raise InputError(f"{path}: no voxel holds a finite number; export it again") from None
    notes = [f"{replaced:,} voxels that were not finite (NaN, infinite) hold the lowest finite value instead"]
    notes = notes if replaced else []
    if values.ndim == 2:
        column_mm, row_mm = image.GetSpacing()
        return Volume(values[None], None, (float("nan"), row_mm, column_mm), notes=tuple(notes), source=source)
    try:
        geometry = _geometry(source)
    except ValueError:
        raise InputError(f"{path}: the header's direction or spacing is not usable; repair it") from None
    return Volume(values, geometry, notes=tuple(notes), source=source)


def write_itk_mask(path: Path, mask: npt.NDArray[np.uint8], source: Source | None, geometry: Geometry | None) -> None:
    """Write a label map under a temporary name, then rename it.

    Args:
        path: A .nrrd or .mha file.
        mask: (D, H, W) in stored axes.
        source: Where the image was read by `read_itk`: its placing is taken over unchanged.
        geometry: Else, the affine.

    Raises:
        OutputError: The folder cannot be written to, or the affine is sheared (a gantry tilt), which neither format
            can say.
    """
    import SimpleITK as sitk  # noqa: N813

    image: Any
    if isinstance(source, ItkSource):
        image = sitk.GetImageFromArray(mask.reshape(source.size[::-1]))
        image.SetOrigin(source.origin_mm)
        image.SetSpacing(source.spacing_mm)
        image.SetDirection(source.direction)
    else:
        image = sitk.GetImageFromArray(np.ascontiguousarray(mask))
        if geometry is not None:
            affine = (LPS_TO_RAS @ geometry.affine_ras_mm)[:, [2, 1, 0, 3]]
            spacing = np.linalg.norm(affine[:3, :3], axis=0)
            direction = affine[:3, :3] / spacing
            if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-3):
                raise OutputError(
                    f"{path}: a sheared scan (gantry tilt) has no NRRD or MHA form; write .nii.gz instead"
                )
            image.SetOrigin(affine[:3, 3].tolist())
            image.SetSpacing(spacing.tolist())
            image.SetDirection(direction.ravel().tolist())
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, str(temporary), useCompression=True)
        temporary.replace(path)
    except (OSError, RuntimeError):
        temporary.unlink(missing_ok=True) if temporary.parent.is_dir() else None
        raise OutputError(f"Cannot write {path}. Choose a folder that can be written.") from None


def _geometry(source: ItkSource) -> Geometry:
    affine: npt.NDArray[Any] = np.eye(4)
    affine[:3, :3] = np.array(source.direction).reshape(3, 3) * source.spacing_mm
    affine[:3, 3] = source.origin_mm
    return Geometry((LPS_TO_RAS @ affine)[:, [2, 1, 0, 3]])


def _is_nrrd(path: Path) -> bool:
    return read_bytes(path, 4) == b"NRRD"
