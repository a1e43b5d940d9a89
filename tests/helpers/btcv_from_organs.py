"""Lays out a TotalSegmentator sample (a scan and binary organ masks) as one case of BTCV's raw form."""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np

from data_modules.synapse_labels import LABEL_NAMES

_NAMES = {"portal and splenic vein": "portal_vein_and_splenic_vein"}


def write_btcv(sample: Path, root: Path, number: int = 1) -> Path:
    """Write `RawData/Training/{img,label}` with one case.

    Args:
        sample: Holds `ct.nii.gz` and `organs/<organ>.nii.gz`.
        root: Where to write.
        number: The case's number.
    """
    top = root / "RawData" / "Training"
    for name in ("img", "label"):
        (top / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(sample / "ct.nii.gz", top / "img" / f"img{number:04d}.nii.gz")
    scan = nib.load(sample / "ct.nii.gz")
    label = np.zeros(scan.shape, np.uint8)
    for label_id, name in LABEL_NAMES["btcv13"].items():
        words = name.split()
        stem = "_".join([*words[1:], words[0]] if words[0] in ("left", "right") else words)
        mask = nib.load(sample / "organs" / f"{_NAMES.get(name, stem)}.nii.gz")
        label[np.asarray(mask.dataobj) > 0] = label_id
    nib.save(nib.Nifti1Image(label, scan.affine), top / "label" / f"label{number:04d}.nii.gz")
    return root
