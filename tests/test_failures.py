"""Failures of torch in words that say what to do."""

import os
import signal
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from data_modules.loading import EpochDataset
from medzeroseg import distributed
from medzeroseg.errors import CompilationError, DeadWorkerError, LostRankError, OutOfMemoryError
from medzeroseg.failures import explain_failure

CONFIG: dict[str, Any] = {
    "model": {"init_args": {"micro_batch_size": None}},
    "data": {"init_args": {"batch_size": 64}},
    "trainer": {"precision": None, "accumulate_grad_batches": 1},
}


def test_out_of_memory_names_the_next_thing_to_try() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")
    explained = explain_failure(error, CONFIG)
    assert isinstance(explained, OutOfMemoryError)
    assert explained.exit_code == 1
    lines = str(explained).splitlines()
    assert lines[0] == "CUDA out of memory. Tried to allocate 2.00 GiB."
    assert "--trainer.precision=bf16-mixed" in lines[2]
    assert "--model.init_args.micro_batch_size=32" in lines[3]
    image_text = {**CONFIG, "model": {"init_args": {"micro_batch_size": None, "towers": None}}}
    assert "towers.gradient_checkpointing=[image,text]" in str(explain_failure(error, image_text)).splitlines()[3]
    image_text["model"]["init_args"]["towers"] = {"gradient_checkpointing": ["image"]}
    assert "gradient_checkpointing" not in str(explain_failure(error, image_text))
    supervised = {
        **CONFIG,
        "model": {"init_args": {}},
        "trainer": {"precision": "bf16-mixed", "accumulate_grad_batches": 2},
    }
    lines = str(explain_failure(MemoryError(), supervised)).splitlines()
    assert lines[0] == "Out of memory."
    assert "--data.init_args.batch_size=32 --trainer.accumulate_grad_batches=4" in lines[2]
    for model in (CONFIG["model"], image_text["model"]):  # the image-text model decides how large its images are
        assert "image_size_px" not in str(explain_failure(error, {**CONFIG, "model": model}))
    for window_px, advice in ((None, "smaller images: --data.init_args.image_size_px"), (64, "init_args.window_px")):
        supervised["model"] = {"init_args": {"window_px": window_px}}
        assert str(explain_failure(error, supervised)).endswith(advice)
    allocator = RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried"
    )
    assert isinstance(explain_failure(allocator, {}), OutOfMemoryError)


def test_a_lost_rank_is_told_only_where_there_are_several(monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("[../third_party/gloo/pair.cc:534] Connection closed by peer [10.213.0.12]:4711")
    assert explain_failure(error, CONFIG) is None
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    explained = explain_failure(error, CONFIG)
    assert isinstance(explained, LostRankError)
    assert "Rank 0 on " in str(explained)
    assert "10.213.0.12" in str(explained)


def test_what_cannot_be_compiled_is_told_with_the_switch() -> None:
    def broken(*_: object) -> Any:
        raise ZeroDivisionError("on purpose")

    with pytest.raises(RuntimeError) as caught:
        torch.compile(torch.nn.Linear(1, 1), backend=broken)(torch.ones(1, 1))
    explained = explain_failure(caught.value, CONFIG)
    assert isinstance(explained, CompilationError)
    assert "on purpose" in str(explained)
    assert "performance.compile=false" in str(explained)


def test_other_failures_are_left_alone() -> None:
    assert explain_failure(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), CONFIG) is None
    assert explain_failure(ValueError("DataLoader worker (pid 3) is killed"), CONFIG) is None


class Deadly(EpochDataset[int]):
    """Its seventh item kills who reads it."""

    def __len__(self) -> int:
        return 12

    def name_of(self, index: int) -> str:
        return f"case {index}"

    def __getitem__(self, index: int) -> int:
        if index == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


def test_a_dead_reader_is_told_with_what_it_was_reading() -> None:
    dataset = Deadly()
    with pytest.raises(RuntimeError) as caught:
        list(DataLoader(dataset, batch_size=2, num_workers=2))
    explained = explain_failure(caught.value, CONFIG, dataset.reading)
    assert isinstance(explained, DeadWorkerError)
    assert "while it was reading case 7." in str(explained)
    assert explained.exit_code == 1
    assert "num_workers" in str(explained)
    assert dataset.reading(os.getpid()) is None
    unknown = explain_failure(caught.value, CONFIG)
    assert isinstance(unknown, DeadWorkerError)
    assert "reading case" not in str(unknown)


def test_readers_that_live_are_reading_nothing_in_the_end() -> None:
    dataset = Deadly()
    loader = DataLoader(dataset, batch_size=3, sampler=[0, 1, 2, 3], num_workers=1)
    assert [batch.tolist() for batch in loader] == [[0, 1, 2], [3]]
    [pid] = {worker for worker, _ in dataset._reading.tolist() if worker > 0}
    assert dataset.reading(pid) is None
    assert pid != os.getpid()
