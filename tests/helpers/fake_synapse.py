"""Writes tiny abdominal CT in Synapse's raw and preprocessed forms, from a seed."""

from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import numpy.typing as npt

from data_modules.synapse_labels import LABEL_NAMES, Convention, StoredAxes, lookup_table

Grey = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]

SHAPE = (6, 40, 48)
"""(D, H, W): feet to head, front to back, patient's right to left."""

# Centre (slice, row, column) and radii as shares of the volume; the later ones lie on top.
_ORGANS = {
    "liver": ((0.55, 0.38, 0.28), (0.6, 0.26, 0.2)),
    "stomach": ((0.7, 0.33, 0.62), (0.5, 0.16, 0.14)),
    "spleen": ((0.7, 0.6, 0.82), (0.4, 0.16, 0.1)),
    "right kidney": ((0.35, 0.72, 0.3), (0.5, 0.11, 0.08)),
    "left kidney": ((0.35, 0.72, 0.68), (0.5, 0.11, 0.08)),
    "pancreas": ((0.45, 0.52, 0.52), (0.3, 0.06, 0.11)),
    "gallbladder": ((0.4, 0.45, 0.4), (0.25, 0.07, 0.06)),
    "aorta": ((0.5, 0.72, 0.52), (0.8, 0.05, 0.04)),
    "inferior vena cava": ((0.5, 0.7, 0.44), (0.8, 0.05, 0.04)),
    "esophagus": ((0.95, 0.6, 0.5), (0.2, 0.04, 0.03)),
    "portal and splenic vein": ((0.6, 0.5, 0.46), (0.3, 0.03, 0.05)),
    "right adrenal gland": ((0.75, 0.62, 0.38), (0.2, 0.03, 0.03)),
    "left adrenal gland": ((0.75, 0.62, 0.62), (0.2, 0.03, 0.03)),
}


def abdomen(seed: int = 0) -> tuple[Grey, Labels]:
    """Draw a volume in display orientation: Hounsfield units and btcv13 ids."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*((np.arange(size) + 0.5) / size for size in SHAPE), indexing="ij")
    ids = {name: label_id for label_id, name in LABEL_NAMES["btcv13"].items()}
    label = np.zeros(SHAPE, np.uint8)
    for name, (centre, radii) in _ORGANS.items():
        jitter = rng.uniform(-0.01, 0.01, 3)
        inside = sum(((g - c - j) / r) ** 2 for g, c, j, r in zip(grid, centre, jitter, radii, strict=True)) < 1
        label[inside] = ids[name]
    image = np.where(label > 0, 60 + 10 * label, -20) + rng.normal(0, 5, SHAPE)
    return image.astype(np.float32), label


def write_raw(root: Path, numbers: list[int], *, seed: int = 0) -> Path:
    """Write `img/img0001.nii.gz` and `label/label0001.nii.gz`, stored in LAS as BTCV's own."""
    for folder in ("img", "label"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    affine = np.diag([-0.8, 0.7, 3.0, 1.0])
    for number in numbers:
        image, label = abdomen(seed + number)
        for array, name in ((image.astype(np.int16), "img"), (label, "label")):
            # Display columns run to the left as stored i does; display rows to the back, stored j to the front.
            stored = array[:, ::-1].transpose(2, 1, 0)
            nib.save(nib.Nifti1Image(stored, affine), root / name / f"{name}{number:04d}.nii.gz")
    return root


def write_preprocessed(
    root: Path,
    *,
    train: list[int],
    test: list[int],
    convention: Convention = "transunet8",
    axes: StoredAxes = "PL",
    lists: bool = True,
    seed: int = 0,
) -> Path:
    """Write `train_npz`, `test_vol_h5` and the lists; labels are float32, as SAMed's script leaves them."""
    for folder in ("train_npz", "test_vol_h5"):
        (root / folder).mkdir(parents=True)
    names: dict[str, list[str]] = {"train.txt": [], "test_vol.txt": []}
    for number in (*train, *test):
        image, label = abdomen(seed + number)
        grey = np.clip((image + 125) / 400, 0, 1)
        ids = lookup_table("btcv13", convention)[label].astype(np.float32)
        grey, ids = _stored(grey, axes), _stored(ids, axes)
        if number in test:
            with h5py.File(root / "test_vol_h5" / f"case{number:04d}.npy.h5", "w") as file:
                file["image"], file["label"] = grey, ids
            names["test_vol.txt"].append(f"case{number:04d}")
            continue
        for index in range(len(grey)):
            name = f"case{number:04d}_slice{index:03d}"
            np.savez(root / "train_npz" / f"{name}.npz", image=grey[index], label=ids[index])
            names["train.txt"].append(name)
    if lists:
        (root / "lists_Synapse").mkdir()
        for name, lines in names.items():
            (root / "lists_Synapse" / name).write_bytes(("\r\n".join(lines) + "\r\n").encode())
    return root


def _stored(array: Grey, axes: StoredAxes) -> Grey:
    """Turn display slices (rows to the back, columns to the left) so that rows and columns run along `axes`."""
    if "A" in axes:
        array = array[:, ::-1]
    if "R" in axes:
        array = array[:, :, ::-1]
    return array.swapaxes(1, 2) if axes[0] in "LR" else array
