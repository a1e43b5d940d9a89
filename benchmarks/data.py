"""Reading data: ROCO-like JPEGs against open_clip's CSV dataset, CT slices against nibabel and MONAI, `data check`.

    make bench BENCH=data [ARGS='--rounds 5 --quick']

Everything is generated in a temporary folder and read from the page cache, so the disk does not count. One process, no
worker: figures are per core. Contenders take turns.
"""

from __future__ import annotations

import argparse
import csv
import io
import tempfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.data import PersistentDataset
from monai.transforms import Compose, LoadImaged
from open_clip_train.data import CsvDataset
from PIL import Image

from benchmarks.timing import interleaved_medians, machine
from data_modules import PictureFile, SynapseDataModule
from data_modules.cores import usable_cores
from data_modules.pairs import ImageTextCollate, ImageTextDataset, ImageTextRecord
from medzeroseg.main import main
from medzeroseg.models import ImageTextModel

CPU = torch.device("cpu")


def jpeg_rows(folder: Path, images: int, rounds: int) -> list[str]:
    """ROCO-like pipeline: decode, the model's evaluation and training preprocessing, tokenise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (images, 12, 12), dtype=np.uint8)
    paths = [folder / f"ROCO_{n:05d}.jpg" for n in range(images)]
    for n, (path, small) in enumerate(zip(paths, coarse, strict=True)):
        # ROCO's pictures are about 600 pixels wide, a part of them in colour
        size = (600, 480 + 40 * (n % 6))
        Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).convert("RGB" if n % 3 else "L").save(path)
    captions = [f"Axial CT of patient {n} with a lesion in segment {n % 8} of the liver." for n in range(images)]
    table = folder / "captions.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter="\t")
        writer.writerows([("filepath", "title"), *zip(map(str, paths), captions, strict=True)])
    model = ImageTextModel("ViT-B-16")
    records = [
        ImageTextRecord(path.stem, caption, PictureFile(path)) for path, caption in zip(paths, captions, strict=True)
    ]
    rows = []
    for name, train in (("evaluation", False), ("training", True)):
        ours = ImageTextDataset(records, model.image_transform(train=train))
        collate = ImageTextCollate(model.tokenizer)
        transform = _open_clip_transform(model.image_size_px, train)
        theirs = CsvDataset(str(table), transform, "filepath", "title", tokenizer=model.tokenizer)

        def read_ours(dataset: ImageTextDataset = ours, collate: ImageTextCollate = collate) -> None:
            for start in range(0, images, 64):
                collate([dataset[n] for n in range(start, min(start + 64, images))])

        def read_theirs(dataset: CsvDataset = theirs) -> None:
            for start in range(0, images, 64):
                torch.utils.data.default_collate([dataset[n] for n in range(start, min(start + 64, images))])

        times = interleaved_medians({"ours": read_ours, "theirs": read_theirs}, rounds, CPU)
        rate = {key: images / seconds for key, seconds in times.items()}
        rows.append(
            _row(
                f"JPEG pipeline, {name}, images/s / open_clip CsvDataset",
                rate["ours"] / rate["theirs"],
                ">= 1.0",
                rate["ours"] >= rate["theirs"],
                f"{rate['ours']:.0f} / {rate['theirs']:.0f} images/s",
            )
        )
    return rows


def _open_clip_transform(size: tuple[int, int], train: bool) -> Callable[[Image.Image], torch.Tensor]:
    from open_clip.transform import image_transform

    transform: Callable[[Image.Image], torch.Tensor] = image_transform(size, is_train=train)
    return transform


def write_volumes(root: Path, volumes: int, shape: tuple[int, int, int]) -> Path:
    """CT-like volumes and label maps in BTCV's raw layout: smooth anatomy, noise, air around a body."""
    training = root / "RawData" / "Training"
    for part in ("img", "label"):
        (training / part).mkdir(parents=True)
    numbers = [*range(1, 11), *range(21, 41)][:volumes]
    side, _, depth = shape
    x, y = np.meshgrid(*(np.linspace(-1, 1, side),) * 2, indexing="ij")
    body = x**2 / 0.8 + y**2 / 0.5 < 1
    liver = (x - 0.35) ** 2 / 0.16 + y**2 / 0.12 < 1
    spleen = (x + 0.5) ** 2 / 0.03 + (y + 0.1) ** 2 / 0.06 < 1
    affine = np.diag([0.7, 0.7, 3.0, 1.0])
    for n in numbers:
        rng = np.random.default_rng(n)
        flat = np.where(body, 40.0, -1000.0) + 30 * liver + 20 * spleen
        image = flat[..., None] + rng.normal(0, 12, shape)
        label = np.repeat((6 * liver + 1 * (spleen & ~liver)).astype(np.uint8)[..., None], depth, axis=2)
        nib.save(nib.Nifti1Image(image.astype(np.int16), affine), training / "img" / f"img{n:04d}.nii.gz")
        nib.save(nib.Nifti1Image(label, affine), training / "label" / f"label{n:04d}.nii.gz")
    return root


def slice_rows(folder: Path, quick: bool, rounds: int) -> list[str]:
    """Random warm slices of CT volumes, image and label map."""
    shape = (256, 256, 40) if quick else (512, 512, 100)
    root = write_volumes(folder / "synapse", 3, shape)
    module = SynapseDataModule(root, split="publication", cache_dir=folder / "cache", num_workers=0)
    module.setup("test")
    dataset = module.datasets["test"]
    order = np.random.default_rng(0).permutation(len(dataset))
    pairs = [
        {"image": str(path), "label": str(path).replace("/img/img", "/label/label")}
        for path in sorted((root / "RawData" / "Training" / "img").iterdir())
    ]
    persistent = PersistentDataset(pairs, Compose([LoadImaged(("image", "label"))]), folder / "monai")
    for n in range(len(pairs)):
        persistent[n]  # decoded once, before the clock runs

    def read_ours(count: int) -> None:
        for row in order[:count]:
            place, number = int(dataset.case_of_row[row]), int(dataset.slice_of_row[row])
            dataset.readers[place].read_slice(number)

    def read_monai(count: int) -> None:
        for row in order[:count]:
            item = persistent[int(dataset.case_of_row[row])]
            number = int(dataset.slice_of_row[row])
            window = (item["image"][:, :, number].float() + 125).div_(400).clamp_(0, 1)
            window.numpy(), item["label"][:, :, number].numpy().copy()

    def read_nibabel(count: int) -> None:
        for row in order[:count]:
            pair, number = pairs[int(dataset.case_of_row[row])], int(dataset.slice_of_row[row])
            image, label = (np.asanyarray(nib.load(pair[key]).dataobj)[:, :, number] for key in ("image", "label"))
            np.clip((image + 125.0) / 400, 0, 1), label.copy()

    # Each contender reads as many slices as it can in about the same time.
    counts = {"ours": 200, "monai": 5, "nibabel": 2}
    readers = {"ours": read_ours, "monai": read_monai, "nibabel": read_nibabel}
    contenders = {name: (lambda name=name: readers[name](counts[name])) for name in readers}
    times = interleaved_medians(contenders, rounds, CPU)
    rate = {name: counts[name] / times[name] for name in times}
    detail = ", ".join(f"{name} {value:.1f}" for name, value in rate.items())
    return [
        _row(
            f"slices/s, {shape[0]}x{shape[1]}x{shape[2]}, warm / nibabel per slice",
            rate["ours"] / rate["nibabel"],
            ">= 50",
            rate["ours"] >= 50 * rate["nibabel"],
            f"{detail} slices/s",
        ),
        _row(
            "slices/s, warm / MONAI PersistentDataset",
            rate["ours"] / rate["monai"],
            ">= 1.0",
            rate["ours"] >= rate["monai"],
            "its cache holds whole volumes: each slice reads one",
        ),
    ]


def check_rows(folder: Path, quick: bool, rounds: int) -> list[str]:
    """`data check` against nothing but decompressing the same files, both with all cores."""
    volumes, shape = (6, (256, 256, 40)) if quick else (30, (512, 512, 100))
    root = write_volumes(folder / "check", volumes, shape)
    files = sorted(root.rglob("*.nii.gz"))
    workers = usable_cores()

    def decompress(path: Path) -> int:
        return len(zlib.decompress(path.read_bytes(), wbits=zlib.MAX_WBITS | 16))

    def bare() -> None:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(decompress, files))

    def check() -> None:
        words = ["data", "check", "synapse", str(root), "--splits", "test", "--option", "split=publication"]
        with redirect_stdout(io.StringIO()):
            code = main([*words, "--workers", str(workers)])
        if code != 0:
            raise RuntimeError(f"data check found errors in generated volumes (exit code {code})")

    times = interleaved_medians({"check": check, "bare": bare}, rounds, CPU, warm_up=0)
    sizes = sum(path.stat().st_size for path in files) / 2**20
    name = f"data check of {volumes} volumes {shape[0]}x{shape[1]}x{shape[2]} and labels / decompressing them"
    detail = f"{times['check']:.1f} s / {times['bare']:.1f} s, {sizes:.0f} MiB compressed, {workers} threads"
    return [_row(name, times["check"] / times["bare"], "-", None, detail)]


def _row(figure: str, found: float, target: str, reached: bool | None, detail: str) -> str:
    said = "-" if reached is None else "yes" if reached else "no"
    return f"| {figure} | {found:.2f} | {target} | {said} | {detail} |"


def run() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds")
    parser.add_argument("--quick", action="store_true", help="small volumes: a trial, not a figure to quote")
    parser.add_argument("--images", type=int, default=256, help="JPEG files")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch; 1: per core")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    packages = ", ".join(f"{name} {version(name)}" for name in ("open_clip_torch", "nibabel", "monai", "pillow"))
    print(f"{machine(CPU)}; {packages}\n\n| figure | found | target | reached | detail |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "jpeg").mkdir()
        for row in jpeg_rows(folder / "jpeg", arguments.images, arguments.rounds):
            print(row, flush=True)
        for row in slice_rows(folder, arguments.quick, arguments.rounds):
            print(row, flush=True)
        for row in check_rows(folder, arguments.quick, max(1, arguments.rounds // 2)):
            print(row, flush=True)


if __name__ == "__main__":
    run()
