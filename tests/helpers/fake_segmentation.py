"""Writes tiny labelled sets in the layouts of their owners, and a data module over arrays for tests of the base."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

from data_modules.case_sources import ArrayFiles
from data_modules.cases import CaseIndex, SegmentationCase
from data_modules.segmentation import SegmentationDataModule
from data_modules.splits import Split
from medzeroseg.imaging import FixedWindow, Window
from tests.helpers.fake_data import heart_label

Volume = npt.NDArray[np.generic]


class ArraysDataModule(SegmentationDataModule):
    """Cases that `write_case` wrote into `<root>/<split>`; `patient_case.npz` belongs to `patient`."""

    def __init__(self, root: Path, **options: object) -> None:
        defaults = {"num_workers": 0, "batch_size": 2, "image_size_px": 8, "cache_dir": root / "cache"}
        super().__init__(root, **{**defaults, **options})  # type: ignore[arg-type]

    @property
    def label_names(self) -> dict[int, str]:
        return {1: "ball", 2: "box"}

    @property
    def modality(self) -> str:
        return "toy MRI"

    @property
    def window(self) -> Window:
        return FixedWindow(0, 100)

    def index_split(self, split: Split) -> CaseIndex:
        paths = sorted((self.root / split).glob("*.npz"))
        return CaseIndex([make_case(path) for path in paths])


class PicturesDataModule(ArraysDataModule):
    """The same, each case read as one picture."""

    @property
    def pictures(self) -> bool:
        return True


def make_case(path: Path) -> SegmentationCase:
    label = None if path.stem.endswith("unlabelled") else "label"
    return SegmentationCase(path.stem, path.stem.split("_")[0], ArrayFiles((path,), label_key=label))


def write_case(
    root: Path, split: str, name: str, *, slices: int = 3, size: tuple[int, int] = (6, 5), seed: int = 0, label: int = 1
) -> Path:
    """Write one volume whose slice k has the grey level 10 k + noise, and `label` in its upper half but the last."""
    rng = np.random.default_rng([seed, *name.encode()])
    image = (10 * np.arange(slices)[:, None, None] + rng.integers(0, 5, (slices, *size))).astype(np.int16)
    mask = np.zeros((slices, *size), np.uint8)
    mask[: slices - 1, : size[0] // 2] = label
    path = root / split / f"{name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, image=image, label=mask)
    return path


def write_cases(root: Path, names: Mapping[str, Sequence[str]], **options: int) -> Path:
    """Write several cases: split to names."""
    for split, of_split in names.items():
        for name in of_split:
            write_case(root, split, name, **options)
    return root


def write_nifti(path: Path, array: Volume, affine: npt.NDArray[np.float64] | None = None) -> Path:
    """Write (D, H, W) with its axes reversed, as NIfTI has them; by default RAS with 2 mm voxels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array.T, np.diag([2.0, 2.0, 2.0, 1.0]) if affine is None else affine), path)
    return path


ACDC_SPACING_MM = (10.0, 1.5, 1.25)


def write_acdc(
    root: Path, *, seed: int = 0, training: int = 5, testing: int = 2, slices: int = 4, gt_of_testing: bool = True
) -> Path:
    """Write the challenge's layout, with the cines; ED is frame 1, ES a later one, its cavity smaller."""
    rng = np.random.default_rng(seed)
    affine = np.diag([-ACDC_SPACING_MM[2], -ACDC_SPACING_MM[1], ACDC_SPACING_MM[0], 1.0])
    for folder, first, count in (("training", 1, training), ("testing", 101, testing)):
        for number in range(first, first + count):
            patient = f"patient{number:03d}"
            top = root / folder / patient
            top.mkdir(parents=True)
            systole = 8 + number % 5
            (top / "Info.cfg").write_text(
                f"ED: 1\nES: {systole}\nGroup: {('DCM', 'NOR', 'HCM')[number % 3]}\nHeight: 170.0\nNbFrame: 30\n"
                "Weight: 70.0\n"
            )
            write_nifti(top / f"{patient}_4d.nii.gz", np.zeros((2, 2, 4, 4), np.int16), affine)
            for frame, scale in ((1, 1.0), (systole, 0.7)):
                radii = [scale * (9 - 1.5 * index) for index in range(slices)]
                label = np.stack([heart_label((48, 40), r, right=r > 4) for r in radii])
                image = (label * 100 + rng.integers(0, 40, label.shape)).astype(np.int16)
                stem = f"{patient}_frame{frame:02d}"
                write_nifti(top / f"{stem}.nii.gz", image, affine)
                if folder == "training" or gt_of_testing:
                    write_nifti(top / f"{stem}_gt.nii.gz", label, affine)
    return root


def write_folder(root: Path, *, cases: int = 8, description: Mapping[str, object] | None = None) -> Path:
    """Write volumes of two days a patient, with label maps and a dataset.yaml: 1 liver on the patient's right."""
    for number in range(cases):
        name = f"P{number // 2:02d}_day{number % 2}"
        label = np.zeros((3, 8, 10), np.uint8)  # k from the feet, j to the front, i to the right
        label[:, 2:6, 6:9] = 1
        label[1, 3:5, 1:3] = 2
        image = label.astype(np.int16) * 60 - 20
        write_nifti(root / "images" / f"{name}.nii.gz", image)
        write_nifti(root / "labels" / f"{name}.nii.gz", label)
    values = {
        "labels": {1: "liver", 2: "spleen"},
        "images": "images/{id}.nii.gz",
        "masks": "labels/{id}.nii.gz",
        "modality": "abdominal CT",
        "window": "abdomen",
        "patient": r"^(P\d+)",
    }
    return describe(root, {**values, **(description or {})})


def describe(root: Path, values: Mapping[str, object]) -> Path:
    """Write a dataset.yaml."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.yaml").write_text(yaml.safe_dump(dict(values), sort_keys=False))
    return root


def write_chest_folder(root: Path, *, cases: int = 6, beside: bool = False) -> Path:
    """Write pictures with one mask a structure, in folders of their own or beside the pictures."""
    masks = "images/{id}_lungs.png" if beside else "masks/{id}_lungs.png"
    for number in range(cases):
        picture = np.full((20, 24), 100 + number, np.uint8)
        lungs = np.zeros_like(picture)
        lungs[4:16, 3:10] = 255
        infection = np.zeros_like(picture)
        infection[10:16, 3:8] = 255
        name = f"case ({number})"
        write_png(root / "images" / f"{name}.png", picture)
        write_png(root / masks.format(id=name), lungs)
        write_png(root / "masks" / f"{name}_infection.png", infection)
    return describe(
        root,
        {
            "images": "images/{id}.png",
            "masks": {"lungs": masks, "infection": "masks/{id}_infection.png"},
            "modality": "chest X-ray",
        },
    )


def write_png(path: Path, array: npt.NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def write_nnunet(
    root: Path,
    *,
    version: int = 2,
    cases: int = 6,
    channels: Sequence[str] = ("CT",),
    testing: int = 2,
    labels: Mapping[str, object] | None = None,
) -> Path:
    """Write nnU-Net's layout; channel c of an image holds the value c where nothing is outlined."""
    for folder, first, count in (("Tr", 0, cases), ("Ts", cases, testing)):
        for number in range(first, first + count):
            label = np.zeros((2, 6, 6), np.uint8)
            label[:, 1:4, 1:4] = 1
            label[:, 4:, 4:] = 2
            for channel in range(len(channels)):
                image = np.where(label > 0, 50 * label, channel).astype(np.int16)
                write_nifti(root / f"images{folder}" / f"set_{number:03d}_{channel:04d}.nii.gz", image)
            if folder == "Tr":
                write_nifti(root / "labelsTr" / f"set_{number:03d}.nii.gz", label)
    names = {str(number): name for number, name in enumerate(channels)}
    values: dict[str, object]
    if version == 1:
        values = {"modality": names, "labels": labels or {"0": "background", "1": "liver", "2": "tumour"}}
    else:
        values = {
            "channel_names": names,
            "labels": labels or {"background": 0, "liver": 1, "tumour": 2},
            "file_ending": ".nii.gz",
        }
    (root / "dataset.json").write_text(json.dumps({**values, "numTraining": cases}))
    return root


def batches(dm: SegmentationDataModule, part: str, epoch: int = 0) -> list[dict[str, Any]]:
    """All batches of a part that is set up."""
    if part == "train":
        loader = dm.train_dataloader()
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        return list(loader)
    return list({"val": dm.val_dataloader, "test": dm.test_dataloader, "predict": dm.predict_dataloader}[part]())


def rows(of: list[dict[str, Any]], *keys: str) -> list[tuple[Any, ...]]:
    """Some values of every item of some batches."""
    return [values for batch in of for values in zip(*(list(batch[key]) for key in keys), strict=True)]
