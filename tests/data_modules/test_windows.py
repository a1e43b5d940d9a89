"""Windows: what is named is in them, what is called absent is not, and nothing depends on workers or order."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from data_modules.cases import IGNORE
from data_modules.pairs import ImageTextCollate, ImageTextDataset, ImageTextRecord, PictureFile
from data_modules.windows import LabelPicture, NamedStructures, Windows
from medzeroseg.imaging import InputError

PARTS = {"heart": (1,), "lungs": (2, 3), "spine": (4,)}


@dataclass(frozen=True)
class _Labels:
    array: npt.NDArray[np.uint8]

    def read_label(self) -> npt.NDArray[np.uint8]:
        return self.array


def _scene() -> tuple[Image.Image, NamedStructures]:
    """A picture whose grey values are 40 times the label, so that a window's own pixels say what it shows."""
    labels = np.zeros((96, 128), np.uint8)
    labels[20:40, 10:50], labels[20:40, 70:110], labels[60:90, 40:90] = 2, 3, 1
    return Image.fromarray(labels * 40), NamedStructures("chest X-ray", PARTS, _Labels(labels))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_window_is_brighter_or_darker_as_a_whole(mode: str) -> None:
    picture = Image.new("L", (96, 96), 200).convert(mode)
    structures = NamedStructures("chest X-ray", PARTS, _Labels(np.zeros((96, 96), np.uint8)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        windows = Windows(per_image=100, brightness=0.5).take(picture, structures)
    assert {window.picture.mode for window in windows} == {mode}
    values = [np.unique(np.asarray(window.picture)).tolist() for window in windows]
    assert all(len(found) == 1 for found in values)
    shown = np.array(values)[:, 0]
    assert 100 <= shown.min() < 130  # 200 times 0.5 to 1.5, cut at white
    assert shown.max() == 255
    assert 0.1 < (shown == 255).mean() < 0.35  # white from 1.275 times on: 0.225 of the range


def test_names_say_what_the_pixels_show() -> None:
    picture, structures = _scene()
    options = Windows(size_px=32, per_image=200, side=(0.2, 0.5), brightness=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        windows = options.take(picture, structures)
    assert len(windows) == 200
    assert {window.picture.size for window in windows} == {(32, 32)}
    assert {name for window in windows for name in window.shows} == {"heart", "lungs"}
    shares: dict[str, list[float]] = {"shows": [], "lacks": []}
    for window in windows:
        assert "spine" in window.lacks
        assert not set(window.shows) & set(window.lacks)
        lungs = float((np.asarray(window.picture) > 45).mean())  # the heart is 40
        for said, found in shares.items():
            if "lungs" in getattr(window, said):
                found.append(lungs)
    # bilinear against nearest: borders differ by a pixel
    assert min(shares["shows"]) > 0.01 > max(shares["lacks"])


def test_what_nobody_outlined_is_not_called_absent() -> None:
    picture, structures = _scene()
    labels = structures.labels.read_label().copy()
    labels[labels == 0] = IGNORE
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        windows = Windows(per_image=50).take(picture, NamedStructures("chest X-ray", PARTS, _Labels(labels)))
    empty = [window for window in windows if not window.shows]
    assert empty
    assert all(not window.lacks for window in empty)


def _dataset(folder: Path, windows: Windows | None) -> ImageTextDataset:
    picture, structures = _scene()
    records = []
    for n in range(3):
        picture.save(folder / f"{n}.png")
        Image.fromarray(structures.labels.read_label()).save(folder / f"label_{n}.png")
        named = NamedStructures("chest X-ray", PARTS, LabelPicture(folder / f"label_{n}.png"))
        records.append(ImageTextRecord(f"case_{n}", "a chest X-ray", PictureFile(folder / f"{n}.png"), named))
    return ImageTextDataset(records, lambda shown: torch.zeros(3, 8, 8), seed=1, windows=windows)


def test_batches_carry_them_whatever_the_order(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path, Windows(size_px=16, per_image=2))
    batch = ImageTextCollate()([dataset[n] for n in (0, 1, 2)])
    other = ImageTextCollate()([dataset[n] for n in (2, 0)])
    assert batch["window"].shape == (6, 3, 16, 16)
    assert batch["window_kind"] == ["chest X-ray"] * 6
    assert len(batch["window_shows"]) == len(batch["window_lacks"]) == 6
    torch.testing.assert_close(other["window"][2:], batch["window"][:2])
    assert other["window_shows"][:2] == batch["window_shows"][4:]
    assert not torch.equal(batch["window"][:2], batch["window"][2:4])  # cases differ
    dataset.set_epoch(1)
    assert not torch.equal(dataset[0]["windows"]["images"][0], batch["window"][0])  # epochs, too


def test_without_windows_batches_hold_none(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path, None)
    assert not [key for key in ImageTextCollate()([dataset[0], dataset[1]]) if key.startswith("window")]


def test_a_label_map_of_another_size_names_the_case(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path, Windows())
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(tmp_path / "label_1.png")
    with pytest.raises(InputError, match="case_1: the label map has 7 x 5 pixels, its picture 128 x 96"):
        dataset[1]
    (tmp_path / "label_1.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"case_1: .*label_1.png: the label map cannot be read"):
        dataset[1]


@pytest.mark.parametrize(
    "options",
    [
        {"size_px": 4},
        {"per_image": 0},
        {"side": (0.5, 0.2)},
        {"side": (0.5, 1.2)},
        {"shown": 0.001},
        {"absent": 0.0},
        {"brightness": 1.0},
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        Windows(**options)
