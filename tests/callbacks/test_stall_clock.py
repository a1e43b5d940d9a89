"""A rank that stands still is reported once, with the place where it stands."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from medzeroseg.callbacks.stall_clock import StallClock


def hang_here(seconds: float) -> None:
    time.sleep(seconds)


def test_a_stall_is_reported_once_with_rank_batch_and_stack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = SimpleNamespace(default_root_dir=str(tmp_path), global_rank=3, current_epoch=2, global_step=41)
    clock = StallClock(timeout_s=0.5)
    clock.setup(trainer, None, "fit")  # type: ignore[arg-type]
    clock.on_train_batch_start(trainer, None, {}, 7)  # type: ignore[arg-type]
    hang_here(1.5)
    clock.teardown(trainer, None, "fit")  # type: ignore[arg-type]
    said = capsys.readouterr().err
    assert said.count("has not moved for 0.5 s") == 1
    assert "rank 3 on " in said
    assert "training, epoch 2, batch 7" in said
    assert "hang_here" in said
    assert "hang_here" in (tmp_path / "stall_rank3.txt").read_text(encoding="utf-8")


def test_progress_keeps_it_quiet_and_zero_turns_it_off(tmp_path: Path) -> None:
    trainer = SimpleNamespace(default_root_dir=str(tmp_path), global_rank=0, current_epoch=0, global_step=0)
    clock = StallClock(timeout_s=5)
    clock.setup(trainer, None, "fit")  # type: ignore[arg-type]
    clock.on_train_batch_end(trainer, None)  # type: ignore[arg-type]
    clock.teardown(trainer, None, "fit")  # type: ignore[arg-type]
    off = StallClock(timeout_s=0)
    off.setup(trainer, None, "fit")  # type: ignore[arg-type]
    assert off._thread is None
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="timeout_s"):
        StallClock(-1)
