"""Reads and writes NIfTI-1 and NIfTI-2 (.nii, .nii.gz) through nibabel's header, decompressing once.

nibabel's (and MONAI's) image classes read scaled data as float64 and open the file twice, and MONAI's reader keeps the
whole header, with its free text, in the metadata. Here the header is nibabel's, the voxels are one NumPy buffer.
"""

import gzip
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medzeroseg.imaging.errors import InputError
from medzeroseg.imaging.files import GZIP_MAGIC, GzipReader, read_bytes
from medzeroseg.imaging.geometry import Geometry
from medzeroseg.imaging.scaling import finite_float32, scaled
from medzeroseg.imaging.volume import Source, Volume

HEADER_BYTES = {b"n+1\x00": 348, b"n+2\x00": 540}
# What a mask shares with its image. Free text (descrip, db_name, aux_file, intent_name), display ranges, acquisition
# timing and header extensions are left behind.
_GEOMETRY_FIELDS = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)
_RGB24 = 128
_MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}


@dataclass(frozen=True)
class NiftiSource(Source):
    """The fields of a NIfTI header that place its voxels.

    Attributes:
        shape: The file's spatial shape (i, j, k), with a singleton fourth axis where it has one.
        version: 1 or 2.
        fields: Header fields by name.
    """

    shape: tuple[int, ...]
    version: int
    fields: dict[str, npt.NDArray[Any]] = field(repr=False)


def nifti_magic(head: bytes) -> bytes | None:
    """NIfTI's magic string where the first bytes of a file (uncompressed) are its header, else None."""
    for start, magic in ((344, b"n+1\x00"), (4, b"n+2\x00"), (344, b"ni1\x00"), (4, b"ni2\x00")):
        if head[start : start + 4] == magic:
            return magic
    return None


def read_nifti(path: Path | str, *, volume_index: int | None = None) -> Volume:
    """Read a .nii or .nii.gz file.

    The file is recognised by its content: a wrong extension does no harm. Values that are not finite are replaced by
    the lowest finite one, and that is noted. Scaled and fractional values become float32, others keep their type.

    Args:
        path: The file.
        volume_index: Which volume of a 4-D file, counted from 0; a singleton fourth axis needs none.

    Returns:
        The volume, axes (k, j, i) of the file. The sform is used where it is set, else the qform.

    Raises:
        InputError: The file is missing, empty, truncated, no NIfTI; 4-D without `volume_index`; of a data type that is
            no intensity (complex); or its affine is not usable.
    """
    path = Path(path)
    content = read_bytes(path)
    compressed = content.startswith(GZIP_MAGIC)
    stream = GzipReader(path, content) if compressed else None
    head = stream.read(348, less_at_end=True) if stream else content[:540]
    magic = nifti_magic(head)
    if stream and magic == b"n+2\x00":
        head += stream.read(540 - 348)
    if magic is None:
        raise InputError(f"{path}: this is no NIfTI file (.nii, .nii.gz)")
    if magic not in HEADER_BYTES:
        raise InputError(f"{path}: this is one half of a .hdr/.img pair; convert it to one .nii.gz file")
    header = _parse_header(path, head[: HEADER_BYTES[magic]], magic)

    shape, dtype, offset = _data_layout(path, header)
    byte_count = int(np.prod(shape)) * dtype.itemsize
    if stream:
        stream.read(offset - HEADER_BYTES[magic])  # header extensions: left behind
        raw = np.frombuffer(stream.read(byte_count), dtype)
        stream.check_end()
    else:
        if len(content) < offset + byte_count:
            raise InputError(f"{path}: the file is truncated; fetch or export it again")
        raw = np.frombuffer(content, dtype, count=byte_count // dtype.itemsize, offset=offset)

    notes: list[str] = []
    geometry = _geometry(path, header, notes)
    stored = raw.reshape(shape[::-1])  # the first NIfTI axis is the fastest: reversed, it is C order
    spatial, stored = _one_volume(path, shape, stored, volume_index)
    source = NiftiSource(spatial, 1 if magic == b"n+1\x00" else 2, {k: header[k].copy() for k in _GEOMETRY_FIELDS})
    if dtype.names:  # RGB24
        rgb = np.stack([stored[name] for name in dtype.names], axis=-1)
        return Volume(luma(rgb), geometry, rgb=rgb, window=(0.0, 255.0), notes=tuple(notes), source=source)
    values = stored if stored.dtype.isnative else stored.astype(stored.dtype.newbyteorder("="))
    values = scaled(values, float(header["scl_slope"]), float(header["scl_inter"]))
    try:
        values, replaced = finite_float32(values)
    except ValueError:
        raise InputError(f"{path}: no voxel holds a finite number; export it again") from None
    if replaced:
        notes.append(f"{replaced:,} voxels that were not finite (NaN, infinite) hold the lowest finite value instead")
    return Volume(values, geometry, notes=tuple(notes), source=source)


def luma(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Brightness of colours, (..., 3) to (...), by ITU-R 601-2's weights, as Pillow's mode L."""
    return np.rint(rgb @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.uint8)


def nifti_bytes(values: npt.NDArray[Any], source: Source | None, geometry: Geometry | None) -> bytes:
    """Write a label map or a map of numbers as an uncompressed NIfTI file in memory.

    Args:
        values: (D, H, W) uint8 or float32 in stored axes; the file holds the same type.
        source: Where it came from a NIfTI file: shape, affines, codes, units are that file's, bit for bit.
        geometry: Else, the affine; identity codes are left 0 when there is none either.
    """
    import nibabel as nib

    data = values.T
    if isinstance(source, NiftiSource):
        header = (nib.Nifti1Header if source.version == 1 else nib.Nifti2Header)()
        for name, value in source.fields.items():
            header[name] = value
        image_class = nib.Nifti1Image if source.version == 1 else nib.Nifti2Image
        affine = None
        data = data.reshape(source.shape, order="F")
    else:
        header, image_class, affine = nib.Nifti1Header(), nib.Nifti1Image, None
        if geometry is not None:
            affine = geometry.affine_ras_mm[:, [2, 1, 0, 3]]
            header.set_xyzt_units("mm")
    header.set_data_dtype(values.dtype)
    content: bytes = image_class(data, affine, header).to_bytes()
    return content


def compress(content: bytes, level: int = 6) -> bytes:
    """Gzip without a time or a file name, so that equal masks make equal files."""
    return gzip.compress(content, compresslevel=level, mtime=0)


def _parse_header(path: Path, head: bytes, magic: bytes) -> Any:  # noqa: ANN401 - nibabel's header classes are untyped
    import nibabel as nib
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    header_class = nib.Nifti1Header if magic == b"n+1\x00" else nib.Nifti2Header
    try:
        return header_class.from_fileobj(io.BytesIO(head), check=False)
    except (HeaderDataError, WrapStructError, ValueError):
        raise InputError(f"{path}: the NIfTI header is damaged; export the file again") from None


def _data_layout(path: Path, header: Any) -> tuple[tuple[int, ...], np.dtype[Any], int]:  # noqa: ANN401
    axes = int(header["dim"][0])
    shape = tuple(int(size) for size in header["dim"][1 : axes + 1]) if 1 <= axes <= 7 else ()
    if not shape or min(shape) < 1:
        raise InputError(f"{path}: the NIfTI header gives no usable shape {shape}; export the file again")
    code = int(header["datatype"])
    order = header.endianness
    kinds = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
    if code == _RGB24:
        dtype = np.dtype([("r", "u1"), ("g", "u1"), ("b", "u1")])
    elif code in kinds:
        dtype = np.dtype(order + kinds[code])
    else:
        raise InputError(f"{path}: NIfTI data type {code} holds no intensities; convert it to integers or float32")
    smallest = int(header["sizeof_hdr"]) + 4
    offset = float(header["vox_offset"])
    if not np.isfinite(offset) or 0 < offset < smallest - 4 or offset > 1 << 31:
        raise InputError(f"{path}: the NIfTI header is damaged (voxel offset); export the file again")
    return shape, dtype, int(offset) or smallest


def _geometry(path: Path, header: Any, notes: list[str]) -> Geometry:  # noqa: ANN401
    try:
        unit = header.get_xyzt_units()[0]
        best = header.get_best_affine()
    except (KeyError, ValueError):  # an unknown unit code, a quaternion that is none
        raise InputError(f"{path}: the NIfTI header's affine or units are damaged; repair its qform or sform") from None
    codes = int(header["qform_code"]), int(header["sform_code"])
    if codes == (0, 0):
        notes.append("the file holds no orientation (qform and sform codes are 0): left and right are a guess")
    elif min(codes) > 0 and not np.allclose(header.get_qform(), best, atol=0.1 * float(np.abs(best[:3, :3]).max())):
        notes.append("qform and sform place the voxels differently; the sform is used")
    affine = np.array(best, dtype=np.float64)
    affine[:3] *= _MM_PER_UNIT[unit]
    try:
        return Geometry(affine[:, [2, 1, 0, 3]])
    except ValueError:
        raise InputError(f"{path}: the NIfTI affine is not usable (singular or not finite); repair the sform") from None


def _one_volume(
    path: Path, shape: tuple[int, ...], stored: npt.NDArray[Any], index: int | None
) -> tuple[tuple[int, ...], npt.NDArray[Any]]:
    """Bring (…, k, j, i) to (k, j, i); returns the shape that a mask must have in the file's order as well."""
    spatial = (*shape, 1, 1)[:3]
    volumes = stored.reshape(-1, *spatial[::-1])
    count = len(volumes)
    if count == 1 and index in (None, 0):
        return shape, volumes[0]
    if index is None:
        raise InputError(f"{path}: the file holds {count} volumes; choose one with volume_index=0 to {count - 1}")
    if not 0 <= index < count:
        raise InputError(f"{path}: volume_index={index} is not in the file, which holds {count} volumes")
    return spatial, volumes[index]
