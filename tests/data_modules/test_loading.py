"""Order and position of the training rows, over ranks and in runs that go on."""

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from torch.utils.data import DistributedSampler

from data_modules.loading import EpochDataLoader, EpochRandomSampler
from data_modules.pairs import ImageTextCollate, ImageTextDataset, ImageTextRecord, SquareResize
from tests.helpers.fake_pairs import SIZES, FakeDataModule, Plain, count_letters, make_records, noisy


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
        default_root_dir=folder,
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
    assert isinstance(dm.val_dataloader().sampler, DistributedSampler)  # its own would give pairs twice


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


@pytest.mark.parametrize(("pairs", "ranks"), [(7, 1), (7, 2), (7, 3), (7, 7), (16, 5), (64, 3)])
def test_every_rank_gets_pairs_to_evaluate_and_none_gets_those_of_another(pairs: int, ranks: int):
    """A rank without any would leave the evaluation out, and the others would wait for it."""
    seen: list[int] = []
    for rank in range(ranks):
        dm = FakeDataModule({"train": 8, "val": pairs, "test": 1}, eval_batch_size=4)
        dm.trainer = SimpleNamespace(global_rank=rank, world_size=ranks)  # type: ignore[assignment]
        dm.setup("fit")
        own = [index for batch in dm.val_dataloader() for index in batch["index"].tolist()]
        assert own
        seen += own
    assert sorted(seen) == list(range(pairs))


READS_FOR_EVER = """
import time, torch
from torch.utils.data import DataLoader, TensorDataset
from data_modules.loading import end_with_the_main_process

batches = iter(DataLoader(TensorDataset(torch.zeros(8)), num_workers=2, multiprocessing_context={method!r},
                          worker_init_fn=end_with_the_main_process))
next(batches)
print(*(worker.pid for worker in batches._workers), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_workers_end_with_a_main_process_that_was_killed(method: str, project_root: Path) -> None:
    command = [sys.executable, "-c", READS_FOR_EVER.format(method=method)]
    with subprocess.Popen(command, cwd=project_root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        workers = [Path(f"/proc/{pid}") for pid in process.stdout.readline().split()]
        assert len(workers) == 2
        process.kill()
    until = time.monotonic() + 30
    while any(worker.exists() for worker in workers) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(worker.exists() for worker in workers)
