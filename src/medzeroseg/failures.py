"""What to do about failures that torch reports in words of its own."""

import re
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from medzeroseg import distributed
from medzeroseg.errors import CompilationError, DeadWorkerError, LostRankError, MedZeroSegError, OutOfMemoryError

_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)(.*)")
_SIGNALS = {
    "Bus error": "Shared memory (/dev/shm) is full: use fewer or no workers, --data.init_args.num_workers=0.",
    "Killed": "It was killed, most often for want of memory: use fewer workers, --data.init_args.num_workers=1.",
}
_GRACE_S = 5.0
_LOST = ("Connection closed by peer", "Connection reset by peer", "NCCL", "Timed out waiting", "Socket Timeout")


def explain_failure(
    error: BaseException, config: Mapping[str, Any], reading: Callable[[int], str | None] | None = None
) -> MedZeroSegError | None:
    """Find the words for a failure that has a known cause.

    Args:
        error: What a training, validation or test has raised.
        config: The run's configuration, plain values: `model`, `data`, `trainer`.
        reading: Says what the worker process of a pid was reading, if the data module knows.

    Returns:
        The error to raise instead; None for an error that is none of these.
    """
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in text:
        return OutOfMemoryError(f"{text.splitlines()[0] if text else 'Out of memory.'}\n{_less_memory(config)}")
    if not isinstance(error, RuntimeError):
        return None
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return CompilationError(
            f"torch.compile failed: {' '.join(list(filter(None, text.splitlines()))[:2]) or type(error).__name__}\n"
            "Train without it: --model.init_args.performance.compile=false"
        )
    if worker := _WORKER.search(text):
        pids = [int(pid) for pid in worker[1].split(",")]
        read = [what for pid in pids if reading is not None and (what := reading(pid))]
        place = f" while it was reading {', '.join(read)}" if read else ""
        hint = next((hint for name, hint in _SIGNALS.items() if name in worker[2]), "")
        hint = hint or "Look at that file, and read it in the main process: --data.init_args.num_workers=0."
        return DeadWorkerError(f"A process that reads data (pid {worker[1]}){worker[2].rstrip('. ')}{place}.\n{hint}")
    if distributed.is_distributed() and any(words in text for words in _LOST):
        return LostRankError(
            f"Rank {distributed.rank()} on {socket.gethostname()} has lost another rank: {text.splitlines()[0]}\n"
            "The one that ended first is named in the job's log; why is in its own. Go on with RESUME=1."
        )
    return None


def end_launched_ranks(trainer: Trainer, grace_s: float = _GRACE_S) -> None:
    """End the processes that rank 0 has launched, once it has failed itself: they may wait for it, and would for ever.

    Lightning does so for a KeyboardInterrupt only.

    Args:
        trainer: The trainer that has failed, on any rank; the others have launched nobody.
        grace_s: So long ranks that have failed, too, have to say so.
    """
    launcher = trainer.strategy.launcher
    if not isinstance(launcher, _SubprocessScriptLauncher):
        return
    # Emptied first: Lightning's watch over this list would kill this process, too, before it has said what is wrong.
    processes = launcher.procs.copy()
    launcher.procs.clear()
    until = time.monotonic() + grace_s
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, until - time.monotonic()))
        process.kill()


def _less_memory(config: Mapping[str, Any]) -> str:
    """The next things to try, in the order of what they cost."""
    task = config.get("model", {}).get("init_args", {})
    data = config.get("data", {}).get("init_args", {})
    trainer = config.get("trainer", {})
    batch = task.get("micro_batch_size") or data.get("batch_size") or 0
    tries = []
    if "32" in str(trainer.get("precision") or "32"):
        tries.append("half of it for activations: --trainer.precision=bf16-mixed")
    if "towers" in task and not (task["towers"] or {}).get("gradient_checkpointing"):
        tries.append(
            "activations of the towers computed again instead of kept: "
            "--model.init_args.towers.gradient_checkpointing=[image,text]"
        )
    if batch > 1 and "micro_batch_size" in task:
        tries.append(
            "the same batch, its activations computed in parts, one part at a time: "
            f"--model.init_args.micro_batch_size={batch // 2}"
        )
    elif batch > 1:
        parts = 2 * (trainer.get("accumulate_grad_batches") or 1)
        tries.append(
            "the same number of rows a step, half of them at a time: "
            f"--data.init_args.batch_size={batch // 2} --trainer.accumulate_grad_batches={parts}"
        )
    tries.append("more GPUs with smaller batches each")
    if task.get("window_px"):
        tries.append("smaller windows of the images: --model.init_args.window_px")
    elif "window_px" in task:  # a network of masks; an image-text model has a size of its own
        tries.append("smaller images: --data.init_args.image_size_px")
    return "\n".join(["It needs less memory with, for example:", *(f"  {line}" for line in tries)])
