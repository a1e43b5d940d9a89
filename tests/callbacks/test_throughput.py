"""What a training's speed is made of, on a clock that the test turns."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from medzeroseg.callbacks import Throughput, throughput


def test_waiting_and_working_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    now, logged = 0.0, {}
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now)
    trainer: Any = SimpleNamespace(log_every_n_steps=2, world_size=3)
    task: Any = SimpleNamespace(device=torch.device("cpu"), log=lambda name, value, **_: logged.update({name: value}))
    callback, batch = Throughput(), {"image": torch.zeros(5, 1)}
    callback.on_train_epoch_start(trainer, task)
    for n, (wait, work) in enumerate([(3.0, 1.0), (1.0, 5.0), (8.0, 2.0), (0.0, 0.0)]):
        now += wait
        callback.on_train_batch_start(trainer, task, batch, n)
        now += work
        callback.on_train_batch_end(trainer, task, None, batch, n)
        if n == 0:
            assert not logged
        if n == 1:
            assert logged["train/samples_per_s"] == pytest.approx(2 * 5 * 3 / 10)
            assert logged["train/data_wait"] == pytest.approx(4 / 10)
    assert logged["train/data_wait"] == pytest.approx(8 / 10)  # the clock began anew
    now += 100  # a validation
    callback.on_train_epoch_start(trainer, task)
    for n in (0, 1):
        now += 1
        callback.on_train_batch_start(trainer, task, batch, n)
        callback.on_train_batch_end(trainer, task, None, batch, n)
    assert logged["train/data_wait"] == pytest.approx(1.0)
    assert logged["train/samples_per_s"] == pytest.approx(2 * 5 * 3 / 2)


def test_memory_is_in_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput.resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=3 * 2**20))
    monkeypatch.setattr(throughput.sys, "platform", "linux")
    assert throughput._peak_memory_gib() == 3.0
    monkeypatch.setattr(throughput.sys, "platform", "darwin")
    assert throughput._peak_memory_gib() == 3 / 1024
