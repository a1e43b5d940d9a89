"""Writes tiny datasets in their owners' layouts, from a seed, with faults on request."""

import random
from dataclasses import dataclass
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import numpy.typing as npt
from PIL import Image

Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class RocoFaults:
    """How many of each fault to plant in a folder, from its first pair on; the flags concern a whole file."""

    missing_images: int = 0
    zero_byte_images: int = 0
    truncated_images: int = 0
    images_without_caption: int = 0
    empty_captions: int = 0
    repeated_ids: int = 0
    byte_order_mark: bool = False
    windows_line_ends: bool = False
    tabs_in_captions: bool = False


NO_FAULTS = RocoFaults()


def write_roco(
    root: Path,
    *,
    seed: int = 0,
    train: int = 8,
    validation: int = 4,
    test: int = 6,
    subset: str = "radiology",
    faults: RocoFaults = NO_FAULTS,
) -> Path:
    """Write `root/data/{train,validation,test}/<subset>`; a split of 0 pairs is not written.

    The captions tell which image they belong to: its id, and in words its mean brightness.
    """
    first = 1
    for split, count in (("train", train), ("validation", validation), ("test", test)):
        if count:
            write_roco_folder(root / "data" / split / subset, count, seed=seed, first=first, faults=faults)
        first += count
    return root


def write_roco_folder(
    folder: Path, count: int, *, seed: int = 0, first: int = 1, faults: RocoFaults = NO_FAULTS
) -> None:
    """Write one of ROCO's folders with all its text files."""
    rng = np.random.default_rng([seed, first])
    (folder / "images").mkdir(parents=True)
    lines, ids = [], [f"ROCO_{number:05d}" for number in range(first, first + count)]
    for position, image_id in enumerate(ids):
        level = int(rng.integers(40, 200))
        noise = rng.integers(-30, 30, size=(40, 48)) + level
        # Every third image is colour, as in the real set.
        grey = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))
        picture = grey.convert("RGB") if position % 3 == 2 else grey
        path = folder / "images" / f"{image_id}.jpg"
        picture.save(path, quality=90)
        caption = f'Radiograph {image_id} of brightness {level}, "quoted" – µ'
        if faults.tabs_in_captions:
            caption = caption.replace(" of ", "\tof\t")
        if position < faults.empty_captions:
            caption = ""
        # The space after the tab is in every real line.
        lines.append(f"{image_id}\t {caption}")
        if position < faults.repeated_ids:
            lines.append(lines[-1])
    for image_id in ids[: faults.missing_images]:
        (folder / "images" / f"{image_id}.jpg").unlink()
    present = ids[faults.missing_images :]
    for image_id in present[: faults.zero_byte_images]:
        (folder / "images" / f"{image_id}.jpg").write_bytes(b"")
    for image_id in present[faults.zero_byte_images :][: faults.truncated_images]:
        path = folder / "images" / f"{image_id}.jpg"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for number in range(faults.images_without_caption):
        Image.new("L", (8, 8)).save(folder / "images" / f"ROCO_9{number:04d}.jpg")
    end = "\r\n" if faults.windows_line_ends else "\n"
    mark = "\ufeff" if faults.byte_order_mark else ""
    _write(folder / "captions.txt", mark + end.join(lines) + end)
    _write(folder / "keywords.txt", "".join(f"{i}\t\tradiograph\tbright{n % 2}\n" for n, i in enumerate(ids)))
    _write(folder / "cuis.txt", "".join(f"{i}\t\n" if n % 2 else f"{i}\t\tC0040405\n" for n, i in enumerate(ids)))
    licences = "".join(f"{i},PMC{n}_figure-{n}.jpg,CC BY-NC\n" for n, i in enumerate(ids))
    _write(folder / "licences.txt", "ROCO_ID,PMC_ID,CC\n" + licences)


def heart_label(size: tuple[int, int], radius: float, *, thickness: float = 3.0, right: bool = True) -> Grey:
    """Draw a short-axis slice in ACDC's ids: 1 RV, left of 3 LV, in a ring of 2 myocardium."""
    y, x = np.mgrid[: size[0], : size[1]]
    row, column = size[0] / 2, size[1] / 2
    from_left = np.hypot(y - row, x - column)
    label = np.zeros(size, np.uint8)
    if right:
        label[np.hypot(y - row, x - column + radius + thickness + 1) < radius] = 1
    label[from_left < radius + thickness] = 2
    label[from_left < radius] = 3
    return label


def write_acdc_h5(
    folder: Path, *, seed: int = 0, train_patients: int = 5, test_patients: int = 2, slices: int = 4
) -> Path:
    """Write SSL4MIS's form of ACDC: slices to train, volumes to test; each last slice has no label."""
    rng = np.random.default_rng(seed)
    (folder / "data").mkdir(parents=True)
    names: dict[bool, list[str]] = {False: [], True: []}
    for number in range(1, train_patients + test_patients + 1):
        testing = number > train_patients
        for frame, scale in (("frame01", 1.0), ("frame02", 0.7)):
            radii = [scale * (8 - 1.5 * index) for index in range(slices - 1)]
            label = np.stack([*(heart_label((48, 40), r, right=r > 4) for r in radii), np.zeros((48, 40), np.uint8)])
            image = (label / 3 * 0.8 + rng.uniform(0, 0.2, label.shape)).astype(np.float32)
            name = f"patient{number:03d}_{frame}"
            if testing:
                names[True].append(name)
                _write_h5(folder / "data" / f"{name}.h5", image, label)
                continue
            for index in range(slices):
                names[False].append(f"{name}_slice_{index + 1}")
                _write_h5(folder / "data" / f"{names[False][-1]}.h5", image[index], label[index])
    random.Random(seed).shuffle(names[False])  # the real list is in no order
    _write(folder / "train_slices.list", "\n".join(names[False]) + "\n")
    _write(folder / "test.list", "\n".join(names[True]) + "\n")
    return folder


def write_sunnybrook(folder: Path, *, seed: int = 0, patients: int = 10, images: int = 3) -> Path:
    """Write Sunnybrook's PNG form; the epicardium is outlined in every second image."""
    rng = np.random.default_rng(seed)
    for name in ("images", "i_labels", "o_labels"):
        (folder / name).mkdir(parents=True)
    for patient in range(patients):
        for index in range(images):
            label = heart_label((64, 64), 5.0 + index + patient % 3, right=False)
            name = f"SC-HF-I-{patient:02d}-IM-0001-{20 * index + 48:04d}.dcm.png"
            dark = label * 10 + rng.integers(0, 5, label.shape).astype(np.uint8)  # real ones are dark, too
            _write_png(folder / "images" / name, dark)
            _write_png(folder / "i_labels" / name, (label == 3) * np.uint8(255))
            if index % 2 == 0:
                _write_png(folder / "o_labels" / name, (label >= 2) * np.uint8(255))
    return folder


def chest_masks(size: int, rng: np.random.Generator) -> tuple[Grey, Grey]:
    """Draw two lungs and an infection of the lower half of the one on the left of the image, values 0/255."""
    y, x = np.mgrid[:size, :size] / size
    shift = rng.uniform(-0.03, 0.03)
    right = ((x - 0.3 - shift) / 0.14) ** 2 + ((y - 0.45) / 0.3) ** 2 < 1
    left = ((x - 0.7 - shift) / 0.12) ** 2 + ((y - 0.45) / 0.3) ** 2 < 1
    return (right | left) * np.uint8(255), (right & (y > 0.5)) * np.uint8(255)


def write_covid_qu_ex(
    folder: Path,
    *,
    seed: int = 0,
    count: int = 4,
    doubled: bool = True,
    splits: tuple[str, ...] = ("Train", "Val"),
    part_name: str = "Infection Segmentation Data",
) -> Path:
    """Write a part of COVID-QU-Ex, `count` X-rays a class and split; the lung part has no infection masks."""
    rng = np.random.default_rng(seed)
    part = folder / part_name
    part = part / part.name if doubled else part
    for split in splits:
        for diagnosis, name in (
            ("COVID-19", "covid_{}"),
            ("Non-COVID", "non_COVID ({})"),
            ("Normal", "Normal ({})"),
        ):
            for index in range(count):
                lungs, infection = chest_masks(64, rng)
                if diagnosis != "COVID-19":
                    infection = np.zeros_like(infection)
                image = np.where(lungs > 0, 60, 160) + infection // 4 + rng.integers(0, 20, lungs.shape)
                file = f"{name.format(index + 10 * splits.index(split))}.png"
                top = part / split / diagnosis
                _write_png(top / "images" / file, image.astype(np.uint8))
                _write_png(top / "lung masks" / file, lungs)
                if part_name.startswith("Infection"):
                    _write_png(top / "infection masks" / file, infection)
    return folder


def write_ct(folder: Path, *, seed: int = 0, axes: str = "RAS") -> Path:
    """Write a CT with a liver on the patient's right, a left kidney and an empty esophagus, in 3 mm voxels.

    Args:
        folder: Where to write.
        seed: Seed of the noise.
        axes: Orientation in which the arrays are stored; the anatomy is the same.
    """
    rng = np.random.default_rng(seed)
    shape = (40, 32, 6)  # to the right, to the front, to the head
    x, y, z = np.mgrid[: shape[0], : shape[1], : shape[2]]
    liver = (np.hypot(x - 28, y - 20) < 8) & (z >= 1)
    kidney = (np.hypot(x - 10, y - 8) < 3) & (z <= 3)
    volume = np.where(liver, 110, np.where(kidney, 180, -20)) + rng.integers(-10, 10, shape)
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    organs = {"liver": liver, "kidney_left": kidney, "esophagus": np.zeros(shape, bool)}
    (folder / "organs").mkdir(parents=True)
    for path, array in {
        folder / "ct.nii.gz": volume.astype(np.int16),
        **{folder / "organs" / f"{name}.nii.gz": mask.astype(np.uint8) for name, mask in organs.items()},
    }.items():
        image = nib.Nifti1Image(array, affine)
        stored = nib.io_orientation(affine)
        wanted = nib.orientations.axcodes2ornt(axes)
        nib.save(image.as_reoriented(nib.orientations.ornt_transform(stored, wanted)), path)
    return folder


def write_real_samples(root: Path, *, seed: int = 0) -> Path:
    """Write all four labelled sets under one root."""
    write_acdc_h5(root / "acdc_h5", seed=seed)
    write_sunnybrook(root / "sunnybrook", seed=seed)
    write_covid_qu_ex(root / "covid_qu_ex", seed=seed)
    write_ct(root / "totalsegmentator_ct", seed=seed)
    return root


def _write(path: Path, text: str) -> None:
    # Bytes, so that no line end is changed on the way.
    path.write_bytes(text.encode())


def _write_png(path: Path, array: npt.NDArray[np.integer]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)


def _write_h5(path: Path, image: npt.NDArray[np.float32], label: Grey) -> None:
    with h5py.File(path, "w") as file:
        file["image"], file["label"] = image, label
