"""NIfTI files whose bytes depend on their content alone."""

import gzip

import numpy as np
from numpy.typing import NDArray

_COMPRESSION = 6
_XYZT_MM = 2  # NIfTI's code of millimetres


def encode_nifti(array: NDArray[np.generic], affine: NDArray[np.float64]) -> bytes:
    """Return a `.nii.gz` file.

    Args:
        array: Voxels, shape `(I, J, K)` or `(I, J, K, T)`.
        affine: From voxel indices `(i, j, k)` to patient coordinates in mm, +x right, +y anterior, +z
            superior; shape `(4, 4)`. Written as both the qform and the sform.
    """
    import nibabel as nib  # here, as it slows the start of every command by a second

    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units(_XYZT_MM)
    image.set_qform(affine, code="scanner")
    image.set_sform(affine, code="scanner")
    # A time stamp in the gzip header would make every file another one.
    return gzip.compress(image.to_bytes(), _COMPRESSION, mtime=0)
