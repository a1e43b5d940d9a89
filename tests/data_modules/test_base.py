import logging
import pickle
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from torch.utils.data import DistributedSampler

from data_modules.base import ImageTextDataModule, Split, SplitIndex
from data_modules.loading import EpochDataLoader, EpochRandomSampler
from data_modules.pairs import (
    ImageTextCollate,
    ImageTextDataset,
    ImageTextRecord,
    PictureFile,
    SquareResize,
)
from data_modules.screening import select_by_hash
from data_modules.seeding import seeded, stable_hash
from medzeroseg.imaging import InputError
from tests.helpers.loading import error_of


class Plain:
    """A picture of one grey level, from memory."""

    def __init__(self, level: int) -> None:
        self.level = level

    def read(self) -> Image.Image:
        return Image.new("RGB", (6, 4), (self.level,) * 3)


class Damaged(Plain):
    def read(self) -> Image.Image:
        raise InputError("/data/x.png: the picture is damaged")


def make_records(count: int, captions: Sequence[str] | None = None) -> list[ImageTextRecord]:
    return [ImageTextRecord(f"case{i}", captions[i] if captions else f"caption {i}", Plain(i)) for i in range(count)]


class FakeDataModule(ImageTextDataModule):
    def __init__(self, sizes: dict[str, int], root: Path | str = "nowhere", **options: int | str | bool) -> None:
        super().__init__(root, **{"num_workers": 0, "batch_size": 4, "image_size_px": 8, **options})
        self.sizes = sizes
        self.indexed: list[str] = []

    def index_split(self, split: Split) -> SplitIndex:
        self.indexed.append(split)
        return SplitIndex(make_records(self.sizes[split]), {"images on strike": 0})


def noisy(picture: Image.Image) -> torch.Tensor:
    """Draws from the three generators that image transforms use."""
    return torch.rand(3, 2, 2) + float(np.random.rand()) + random.random()


def count_letters(texts: list[str]) -> torch.Tensor:
    return torch.tensor([[len(text), text.count("1")] for text in texts])


def images_by_case(dm: ImageTextDataModule, epoch: int = 0) -> dict[str, torch.Tensor]:
    loader = dm.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return {case: image for b in loader for case, image in zip(b["case_id"], b["image"], strict=True)}


SIZES = {"train": 10, "val": 3, "test": 5}


def test_batches_hold_the_documented_keys():
    dm = FakeDataModule(SIZES, eval_batch_size=3)
    dm.setup("test")
    dm.attach_model(SquareResize(8), SquareResize(16), count_letters)
    first, second = dm.test_dataloader()
    assert first["image"].shape == (3, 3, 16, 16)
    assert first["image"].dtype == torch.float32
    assert first["tokens"].tolist() == [[9, 0], [9, 1], [9, 0]]
    assert first["text"] == ["caption 0", "caption 1", "caption 2"]
    assert first["case_id"] == ["case0", "case1", "case2"]
    assert first["index"].tolist() == [0, 1, 2]
    assert first["text_id"].dtype == torch.int64
    assert second["image"].shape[0] == 2  # nothing is dropped outside training
    assert torch.allclose(first["image"][2], torch.tensor(2 / 255))


def test_without_a_model_images_are_plain_and_there_are_no_tokens():
    dm = FakeDataModule(SIZES)
    dm.setup("validate")
    batch = next(iter(dm.val_dataloader()))
    assert batch["image"].shape == (3, 3, 8, 8)
    assert "tokens" not in batch
    assert 0 <= batch["image"].min() <= batch["image"].max() <= 1


def test_text_ids_are_equal_exactly_for_equal_captions_over_the_whole_dataset():
    captions = ["a", "b", "a", "B", "c", "b "]
    dataset = ImageTextDataset(make_records(6, captions), SquareResize(2))
    ids = [dataset[i]["text_id"] for i in range(6)]
    for i in range(6):
        for j in range(6):
            assert (ids[i] == ids[j]) == (captions[i] == captions[j])


@pytest.mark.parametrize(("stage", "splits"), [("fit", ["train", "val"]), ("test", ["test"]), ("predict", ["test"])])
def test_setup_indexes_the_splits_of_its_stage_once(stage: str, splits: list[str]):
    dm = FakeDataModule(SIZES)
    dm.setup(stage)
    dm.setup(stage)
    assert dm.indexed == splits


def test_short_training_batches_are_dropped_unless_told_otherwise():
    for drop_last, expected in ((True, [4, 4]), (False, [4, 4, 2])):
        dm = FakeDataModule(SIZES, drop_last=drop_last)
        dm.setup("fit")
        assert [len(batch["text"]) for batch in dm.train_dataloader()] == expected


def test_fewer_pairs_than_a_batch_is_a_clear_error():
    dm = FakeDataModule(SIZES, batch_size=11)
    dm.setup("fit")
    with pytest.raises(InputError, match=r"train split has 10 pairs.*batch of 11.*batch_size to 10"):
        dm.train_dataloader()


def test_order_depends_on_seed_and_epoch_alone():
    dataset = ImageTextDataset(make_records(50), SquareResize(2))

    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochRandomSampler(dataset, seed)
        sampler.set_epoch(epoch)
        torch.rand(3)  # other users of the global generator do not matter
        return list(sampler)

    assert order(0, 0) == order(0, 0)
    assert sorted(order(0, 1)) == list(range(50))
    assert len({tuple(order(s, e)) for s in range(3) for e in range(3)}) == 9


def test_augmentation_depends_on_seed_epoch_and_case_alone():
    def images(epoch: int, **options: int | str | bool) -> dict[str, torch.Tensor]:
        dm = FakeDataModule(SIZES, **{"drop_last": False, **options})
        dm.attach_model(noisy, noisy, None)
        dm.setup("fit")
        return images_by_case(dm, epoch)

    reference = images(3)
    for options in ({"batch_size": 3}, {"num_workers": 2, "batch_size": 5}):
        other = images(3, **options)
        assert other.keys() == reference.keys()
        assert all(torch.equal(other[case], reference[case]) for case in reference)
    for different in (images(4), images(3, seed=1)):
        assert not any(torch.equal(different[case], reference[case]) for case in reference)
    assert len({float(image.sum()) for image in reference.values()}) == len(reference)


def test_workers_that_live_on_see_the_new_epoch():
    dm = FakeDataModule(SIZES, num_workers=1, drop_last=False)
    dm.attach_model(noisy, noisy, None)
    dm.setup("fit")
    loader = dm.train_dataloader()
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        seen = {c: float(i.sum()) for b in loader for c, i in zip(b["case_id"], b["image"], strict=True)}
        dm.datasets["train"].set_epoch(epoch)
        items = [dm.datasets["train"][index] for index in range(SIZES["train"])]
        assert seen == {item["case_id"]: float(item["image"].sum()) for item in items}


def test_reading_and_loading_leave_the_global_generators_alone():
    dm = FakeDataModule(SIZES)
    dm.attach_model(noisy, noisy, None)
    dm.setup("fit")
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    expected = torch.rand(1).item(), np.random.rand(), random.random()
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    list(dm.train_dataloader())
    list(dm.val_dataloader())
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == expected


def test_seeded_puts_the_state_back_after_an_error():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="shape"), seeded("x"):
        torch.rand(2).reshape(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_stable_hash_is_fixed():
    # Splits and selections rest on it: a new value here would move patients between splits.
    assert stable_hash("MedZeroSeg") == 1974635278743282994
    assert stable_hash("a") != stable_hash("b")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_names_case_and_file_also_from_a_worker(workers: int):
    class OneDamaged(FakeDataModule):
        def index_split(self, split: Split) -> SplitIndex:
            return SplitIndex([*make_records(3), ImageTextRecord("case-x", "text", Damaged(0))])

    dm = OneDamaged(SIZES, num_workers=workers, persistent_workers=False)
    dm.setup("test")
    assert error_of(dm.test_dataloader()) == "case case-x: /data/x.png: the picture is damaged"


def test_damaged_images_can_be_skipped_and_are_counted(caplog: pytest.LogCaptureFixture):
    class OneDamaged(FakeDataModule):
        def index_split(self, split: Split) -> SplitIndex:
            return SplitIndex([ImageTextRecord("case-x", "text", Damaged(0)), *make_records(3)])

    dm = OneDamaged(SIZES, corrupt="skip")
    with caplog.at_level(logging.INFO):
        dm.setup("test")
    assert [r.case_id for r in dm.datasets["test"].records] == ["case0", "case1", "case2"]
    assert dm.skipped["test"] == {"unreadable images": 1}
    assert "case-x: /data/x.png" in caplog.text
    assert "left out 1 unreadable images" in caplog.text


def test_empty_captions_are_counted_or_refused():
    class Empty(FakeDataModule):
        def index_split(self, split: Split) -> SplitIndex:
            return SplitIndex(make_records(3, ["", "b", ""]))

    dm = Empty(SIZES)
    dm.setup("test")
    assert len(dm.datasets["test"]) == 1
    assert dm.skipped["test"] == {"empty captions": 2}
    with pytest.raises(InputError, match=r"2 caption\(s\) of the test split.*case0, case2"):
        Empty(SIZES, empty_caption="error").setup("test")


def test_a_split_without_a_usable_pair_says_what_was_left_out():
    class Empty(FakeDataModule):
        def index_split(self, split: Split) -> SplitIndex:
            return SplitIndex(make_records(2, ["", ""]), {"captions without an image": 7})

    with pytest.raises(InputError, match=r"no usable pair.*7 captions without an image, 2 empty captions"):
        Empty(SIZES).setup("test")


def test_limits_keep_the_same_cases_whatever_the_training_seed():
    def kept(**options: int | str | bool) -> list[str]:
        dm = FakeDataModule({**SIZES, "test": 40}, max_test_pairs=10, **options)
        dm.setup("test")
        return [record.case_id for record in dm.datasets["test"].records]

    assert len(kept()) == 10
    assert kept(seed=1) == kept(seed=2)
    assert kept(selection_seed=1) != kept(selection_seed=2)


def test_selection_hardly_changes_when_cases_are_missing():
    records = make_records(200)
    chosen = {r.case_id for r in select_by_hash(records, 50, 0)}
    without_ten = {r.case_id for r in select_by_hash(records[10:], 50, 0)}
    assert len(chosen & without_ten) >= 40
    assert select_by_hash(records, None, 0) == records
    positions = [records.index(r) for r in select_by_hash(records, 50, 0)]
    assert positions == sorted(positions)


def test_images_of_different_shapes_name_the_case():
    first = ImageTextDataset(make_records(1), SquareResize(4))[0]
    second = ImageTextDataset(make_records(2), SquareResize(5))[1]
    with pytest.raises(ValueError, match=r"case case1 \(3, 5, 5\)"):
        ImageTextCollate()([first, second])


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"num_workers": -1}, {"max_test_pairs": 0}, {"image_size_px": 0}]
)
def test_bad_numbers_name_the_argument(options: dict[str, int]):
    with pytest.raises(ValueError, match=next(iter(options))):
        FakeDataModule(SIZES, **options)


def test_dataset_and_collation_can_be_sent_to_a_spawned_worker(tmp_path: Path):
    Image.new("L", (3, 3)).save(tmp_path / "a.png")
    record = ImageTextRecord("a", "text", PictureFile(tmp_path / "a.png"))
    dataset = ImageTextDataset([record], SquareResize(2))
    copy = pickle.loads(pickle.dumps((dataset, ImageTextCollate(count_letters))))
    assert copy[1]([copy[0][0]])["tokens"].tolist() == [[4, 0]]


class Recorder(LightningModule):
    """Notes what it is trained on; hands over its preprocessing as the tasks do."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, list[str], float]] = []

    def setup(self, stage: str) -> None:
        self.trainer.datamodule.attach_model(noisy, SquareResize(2), count_letters)  # type: ignore[attr-defined]

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        self.seen.append((self.current_epoch, batch["case_id"], float(batch["image"].sum())))
        assert batch["tokens"].shape == (4, 2)
        return self.weight.sum()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        assert batch["image"].shape[1:] == (3, 2, 2)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        assert self.trainer.estimated_stepping_batches == 6  # makes Lightning ask for the loader early, as schedules do
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(folder: Path, epochs: int, workers: int, at_train_end: bool = True, resume: Path | None = None, **options: Any):
    each_epoch = ModelCheckpoint(folder, "{epoch}", save_top_k=-1, save_on_train_epoch_end=at_train_end)
    trainer = Trainer(
        **{"accelerator": "cpu", "max_epochs": epochs, "logger": False, "callbacks": [each_epoch], **options},
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Recorder()
    dm = FakeDataModule(SIZES, num_workers=workers)
    trainer.fit(model, datamodule=dm, ckpt_path=str(resume) if resume else None)
    return model


@pytest.mark.parametrize("at_train_end", [True, False], ids=["after training", "after validation"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_sees_what_the_unbroken_run_sees(tmp_path: Path, workers: int, at_train_end: bool):
    whole = fit(tmp_path / "whole", 3, workers, at_train_end)
    assert len({total for _, _, total in whole.seen}) == 6
    orders = [[c for epoch, cases, _ in whole.seen if epoch == e for c in cases] for e in range(3)]
    assert orders[0] != orders[1] != orders[2]
    resumed = fit(tmp_path / "resumed", 3, workers, at_train_end, tmp_path / "whole" / "epoch=0.ckpt")
    assert resumed.seen == whole.seen[2:]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_resumed_in_the_middle_of_an_epoch_sees_the_rest_of_it(tmp_path: Path, workers: int):
    options = {"callbacks": [ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=1)]}
    whole = fit(tmp_path, 3, workers, **options)
    assert len(whole.seen) == 6
    resumed = fit(tmp_path, 3, workers, resume=tmp_path / "step=3.ckpt", callbacks=[])
    assert resumed.seen == whole.seen[3:]


def test_lightning_leaves_the_training_loader_in_place():
    """Lightning replaces samplers under DDP that are not `DistributedSampler`s, and forgets the position."""
    dm = FakeDataModule(SIZES)
    dm.setup("fit")
    assert isinstance(dm.train_dataloader().sampler, DistributedSampler)
    assert not isinstance(dm.val_dataloader().sampler, DistributedSampler)


@pytest.mark.parametrize("drop_last", [True, False])
def test_ranks_share_the_order_that_one_process_sees(drop_last: bool):
    dataset = ImageTextDataset(make_records(11), SquareResize(2))
    whole = list(EpochRandomSampler(dataset, 7))
    ranks = [list(EpochRandomSampler(dataset, 7, rank, 2, drop_last)) for rank in range(2)]
    dealt = [row for pair in zip(*ranks, strict=True) for row in pair]
    assert dealt == (whole[:10] if drop_last else [*whole, whole[0]])
    assert [len(EpochRandomSampler(dataset, 7, rank, 2, drop_last)) for rank in range(2)] == [len(r) for r in ranks]


def test_few_rows_fill_up_many_ranks():
    dataset = ImageTextDataset(make_records(2), SquareResize(2))
    dealt = [list(EpochRandomSampler(dataset, 0, rank, 5)) for rank in range(5)]
    assert [len(rows) for rows in dealt] == [1] * 5
    assert {row for rows in dealt for row in rows} == {0, 1}


class Read(Plain):
    """Notes which pictures were read."""

    seen: ClassVar[list[int]] = []

    def read(self) -> Image.Image:
        self.seen.append(self.level)
        return super().read()


@pytest.mark.parametrize("rank", [None, 1])
def test_a_loader_goes_on_after_the_batches_that_were_given_without_reading_them(rank: int | None):
    records = [ImageTextRecord(f"case{i}", "text", Read(i)) for i in range(24)]
    dataset = ImageTextDataset(records, SquareResize(2))

    def loader(epoch: int) -> EpochDataLoader[Any]:
        sampler = EpochRandomSampler(dataset, 3, rank or 0, 1 if rank is None else 2)
        made = EpochDataLoader(dataset, batch_size=4, sampler=sampler, collate_fn=ImageTextCollate(None))
        sampler.set_epoch(epoch)
        return made

    whole = loader(5)
    batches = iter(whole)
    expected = [next(batches)["case_id"] for _ in range(2)]
    state = whole.state_dict()
    assert state == {"epoch": 5, "batches": 2}
    expected = [batch["case_id"] for batch in batches]
    Read.seen.clear()
    resumed = loader(5)
    resumed.load_state_dict(state)
    assert [batch["case_id"] for batch in resumed] == expected
    assert len(Read.seen) == 4 * len(expected)  # what was given before is not even read
    assert resumed.state_dict() == whole.state_dict()
    assert len([*resumed]) == len(whole)  # the next pass is a whole one
    other = loader(6)  # the checkpoint was that of a finished epoch
    other.load_state_dict(state)
    assert len([*other]) == len(other)
