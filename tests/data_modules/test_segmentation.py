import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch import Tensor

from data_modules.case_sources import ArrayFiles, PictureWithMasks
from data_modules.cases import CaseIndex, SegmentationCase
from data_modules.loading import CaseSampler
from data_modules.pairs import SquareResize
from data_modules.slices import Augmentation, GreyImage, LabelMap, SliceDataset, SlicePreparation
from data_modules.splits import Split
from medzeroseg.imaging import InputError
from tests.helpers.fake_segmentation import (
    ArraysDataModule,
    PicturesDataModule,
    batches,
    make_case,
    rows,
    write_cases,
    write_png,
)

NAMES = {"train": ["p1_a", "p1_b", "p2_a"], "val": ["p3_a"], "test": ["p4_a", "p5_a"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_cases(tmp_path, NAMES)


class NoisyAugmentation(Augmentation):
    """Moves image and mask by a row, or not, and adds a number to the image."""

    def __call__(self, image: GreyImage, mask: LabelMap, *, seed: int) -> tuple[GreyImage, LabelMap]:
        rng = np.random.default_rng(seed)
        turn = int(rng.integers(0, 4))
        return np.clip(np.roll(image, turn, 0) + rng.random(dtype=np.float32) / 10, 0, 1), np.roll(mask, turn, 0)


def test_batches_hold_the_documented_keys(root: Path):
    dm = ArraysDataModule(root, eval_batch_size=4)
    dm.attach_model(SquareResize(16), SquareResize(16))
    dm.setup("test")
    first, second = batches(dm, "test")
    assert first["image"].shape == (4, 3, 16, 16)
    assert first["image"].dtype == torch.float32
    assert first["mask"].shape == (4, 16, 16)
    assert first["mask"].dtype == torch.int64
    assert first["case_id"] == ["p4_a"] * 3 + ["p5_a"]
    assert first["slice_index"].tolist() == [0, 1, 2, 0]
    assert first["slice_count"].tolist() == [3] * 4
    assert first["index"].tolist() == [0, 1, 2, 3]
    assert first["label_names"] == dm.label_names
    assert first["spacing_mm"].shape == (4, 3)
    assert first["spacing_mm"].isnan().all()
    assert len(second["case_id"]) == 2  # nothing is dropped outside training
    truth = make_case(root / "test" / "p4_a.npz").source.read()
    for index in range(3):
        native, mask = first["native_image"][index], first["native_mask"][index]
        assert native.dtype == torch.float32
        assert torch.allclose(native, torch.from_numpy(truth.image[index].astype(np.float32) / 100))
        assert torch.equal(mask, torch.from_numpy(truth.mask[index]))  # type: ignore[index]


def test_training_batches_carry_no_native_copies(root: Path):
    dm = ArraysDataModule(root)
    dm.setup("fit")
    assert "native_image" not in batches(dm, "train")[0]
    assert "native_image" in batches(dm, "val")[0]


def test_mask_and_image_fit_after_the_squash(tmp_path: Path):
    """The image shows what the mask outlines: both must land on the same pixels, whatever the shape."""
    image = np.zeros((1, 30, 90), np.int16)
    image[0, 3:12, 60:84] = 100
    path = tmp_path / "test" / "p1_a.npz"
    path.parent.mkdir()
    np.savez(path, image=image, label=(image > 0).astype(np.uint8))
    dm = ArraysDataModule(tmp_path, image_size_px=45)
    dm.setup("test")
    (batch,) = batches(dm, "test")
    inside = batch["mask"][0] == 1
    grey = batch["image"][0, 0]
    assert inside.any()
    assert ((grey > 0.5) != inside).float().mean() < 0.01
    back = torch.nn.functional.interpolate(batch["image"][:, :1], size=(30, 90), mode="bilinear")[0, 0]
    assert ((back > 0.5) != (batch["native_mask"][0] == 1)).float().mean() < 0.02


def test_slices_of_a_case_come_in_a_row_outside_training(root: Path):
    dm = ArraysDataModule(root)
    dm.setup()
    for part in ("val", "test"):
        found = rows(batches(dm, part), "case_id", "slice_index")
        assert found == [(case.case_id, k) for case in dm.cases(part) for k in range(3)]
    train = rows(batches(dm, "train"), "case_id", "slice_index")
    assert train != sorted(train)


def test_order_and_augmentation_depend_on_seed_epoch_case_and_slice_alone(root: Path):
    def seen(epoch: int, **options: Any) -> dict[tuple[str, int], tuple[Tensor, Tensor]]:
        dm = ArraysDataModule(root, augmentation=NoisyAugmentation(), drop_last=False, **options)
        dm.setup("fit")
        found = rows(batches(dm, "train", epoch), "case_id", "slice_index", "image", "mask")
        return {(case, int(number)): (image, mask) for case, number, image, mask in found}

    reference = seen(2)
    assert len(reference) == 9
    for options in ({"batch_size": 5}, {"num_workers": 2, "batch_size": 1}):
        other = seen(2, **options)
        for key, (image, mask) in reference.items():
            assert torch.equal(other[key][0], image)
            assert torch.equal(other[key][1], mask)
    for different in (seen(3), seen(2, seed=1)):
        assert not any(torch.equal(different[key][0], reference[key][0]) for key in reference)
    for image, mask in reference.values():  # grey of the toy volumes: nothing else ties them together
        assert image.shape[1:] == mask.shape


def test_only_training_is_augmented(root: Path):
    plain, augmented = (ArraysDataModule(root, augmentation=a) for a in (None, NoisyAugmentation()))
    for dm in (plain, augmented):
        dm.setup()
    for part, same in (("val", True), ("train", False)):
        one, other = (torch.cat([batch["image"] for batch in batches(dm, part)]) for dm in (plain, augmented))
        assert torch.equal(one, other) == same


def test_unknown_pixels_are_no_label(tmp_path: Path):
    for number in range(2):
        path = tmp_path / "test" / f"p{number}_a.npz"
        path.parent.mkdir(exist_ok=True)
        np.savez(path, image=np.zeros((1, 4, 4), np.int16), label=np.zeros((1, 4, 4), np.uint8))

    @dataclass(frozen=True)
    class Unknown(ArrayFiles):
        def read(self) -> Any:
            arrays = super().read()
            arrays.mask[0, 0] = 255
            return arrays

    class Module(ArraysDataModule):
        def index_split(self, split: Split) -> CaseIndex:
            paths = sorted((self.root / split).glob("*.npz"))
            return CaseIndex([SegmentationCase(path.stem, path.stem, Unknown((path,))) for path in paths])

    dm = Module(tmp_path)
    dm.setup("test")
    (batch,) = batches(dm, "test")
    assert set(batch["mask"].unique().tolist()) == {0, 255}


@pytest.mark.parametrize("kind", [ArraysDataModule, PicturesDataModule])
def test_empty_training_slices_can_be_left_out(tmp_path: Path, kind: type[ArraysDataModule]):
    slices = 1 if kind is PicturesDataModule else 3
    write_cases(tmp_path, {"train": ["p1_a", "p2_a"], "val": ["p3_a"]}, slices=slices)
    if slices == 1:  # write_case leaves the last slice without a label
        path = tmp_path / "train" / "p1_a.npz"
        np.savez(path, image=np.zeros((1, 6, 5), np.int16), label=np.ones((1, 6, 5), np.uint8))
    dm = kind(tmp_path, empty_slices="skip", batch_size=1)
    dm.setup("fit")
    kept = rows(batches(dm, "train"), "case_id", "slice_index", "slice_count", "mask")
    assert len(kept) == (1 if slices == 1 else 4)
    assert all((mask > 0).any() and count == slices for *_, count, mask in kept)
    assert len(dm.datasets["val"]) == slices
    assert dm.skipped["train"] == {"slices in which nothing is outlined": 1 if slices == 1 else 2}


def test_limits_count_cases_and_do_not_depend_on_the_seed(tmp_path: Path):
    write_cases(tmp_path, {"test": [f"p{n:02d}_a" for n in range(12)]}, slices=1)

    def kept(**options: int) -> list[str]:
        dm = ArraysDataModule(tmp_path, max_test_cases=4, **options)
        dm.setup("test")
        return [case.case_id for case in dm.cases("test")]

    assert len(kept()) == 4
    assert kept(seed=1) == kept(seed=2)
    assert kept(selection_seed=1) != kept(selection_seed=2)
    with pytest.raises(ValueError, match="max_test_cases"):
        ArraysDataModule(tmp_path, max_test_cases=0)


def test_structures_are_one_for_each_label_by_default(root: Path):
    assert ArraysDataModule(root).label_parts == {"ball": (1,), "box": (2,)}


def test_nothing_heavy_is_sent_to_workers(tmp_path: Path):
    write_cases(tmp_path, {"test": ["p1_a", "p2_a"]}, slices=40, size=(64, 64))
    dm = ArraysDataModule(tmp_path)
    dm.setup("test")
    list(dm.test_dataloader())  # maps the volumes
    for part in (dm.datasets["test"].readers, dm.datasets["test"].cases):
        assert len(pickle.dumps(part)) < 4000


def test_a_picture_set_can_be_sent_to_a_spawned_worker(tmp_path: Path):
    write_png(tmp_path / "a.png", np.full((4, 4), 9, np.uint8))
    write_png(tmp_path / "m.png", np.full((4, 4), 255, np.uint8))
    source = PictureWithMasks(tmp_path / "a.png", ((tmp_path / "m.png", 1),))
    dm = PicturesDataModule(tmp_path)
    dm.index_split = lambda split: CaseIndex([SegmentationCase("a", "a", source)])  # type: ignore[method-assign]
    dm.setup("test")
    copy = pickle.loads(pickle.dumps(dm.datasets["test"].readers[0]))
    assert copy.read_slice(0).mask.all()


def test_slices_without_contrast_are_black(tmp_path: Path):
    path = tmp_path / "test" / "p1_a.npz"
    path.parent.mkdir()
    np.savez(path, image=np.full((1, 4, 4), 7, np.int16), label=np.zeros((1, 4, 4), np.uint8))

    class Percentiles(ArraysDataModule):
        @property
        def window(self) -> Any:
            from medzeroseg.imaging import PercentileWindow

            return PercentileWindow()

    dm = Percentiles(tmp_path)
    dm.setup("test")
    (batch,) = batches(dm, "test")
    assert (batch["native_image"][0] == 0).all()


class Recorder(LightningModule):
    """Notes the volumes that it is tested on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[str, int]] = []

    def setup(self, stage: str) -> None:
        transform = SquareResize(6)
        self.trainer.datamodule.attach_model(transform, transform, None)  # type: ignore[attr-defined]

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        assert batch["image"].shape[1:] == (3, 6, 6)
        return self.weight.sum()

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.seen += list(zip(batch["case_id"], batch["slice_index"].tolist(), strict=True))

    predict_step = test_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def test_lightning_fits_tests_and_predicts(root: Path):
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model, dm = Recorder(), ArraysDataModule(root)
    trainer.fit(model, datamodule=dm)
    trainer.test(model, datamodule=dm, verbose=False)
    assert model.seen == [(case, k) for case in ("p4_a", "p5_a") for k in range(3)]
    trainer.predict(model, datamodule=dm, return_predictions=False)
    assert len(model.seen) == 12


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_ranks_share_whole_cases(ranks: int):
    case_of_row = np.repeat(np.arange(5, dtype=np.int32), [3, 1, 4, 2, 3])
    dataset = torch.utils.data.TensorDataset(torch.arange(13))
    seen: list[int] = []
    for rank in range(ranks):
        sampler = CaseSampler(dataset, case_of_row, rank, ranks)
        own = list(sampler)
        assert len(own) == len(sampler) > 0
        assert own == sorted(own)
        cases = {int(case_of_row[row]) for row in own}
        assert own == [row for row in range(13) if int(case_of_row[row]) in cases]
        seen += own
    assert sorted(seen) == list(range(13))


def test_more_ranks_than_cases_are_refused(root: Path):
    dm = ArraysDataModule(root)
    dm.setup("test")
    assert len(dm.cases("test")) == 2
    with pytest.raises(InputError, match=r"2 case\(s\) to evaluate cannot be shared by 3 processes: use at most 2"):
        CaseSampler(dm.datasets["test"], dm.case_of_row("test"), 2, 3)


def test_an_untouched_dataset_starts_at_epoch_0():
    dataset = SliceDataset([], [], SlicePreparation(SquareResize(4), 4))
    assert len(dataset) == 0
    assert dataset.epoch == 0


def test_a_picture_is_squashed_not_cropped():
    """The corners of a wide picture stay in view."""
    from medzeroseg.imaging import square_picture

    grey = np.zeros((10, 40), np.float32)
    grey[:, :4], grey[:, -4:] = 1, 0.5
    picture = np.asarray(square_picture(grey, 20))
    assert picture.shape == (20, 20, 3)
    assert picture[10, 0, 0] > 200
    assert 100 < picture[10, -1, 0] < 150
    assert isinstance(square_picture(grey, 20), Image.Image)
