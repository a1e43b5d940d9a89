"""Break a training in many ways, go on each time, and compare the end with that of an unbroken training, bit by bit.

    make bench BENCH=faults [ARGS='--times 5 --workers 2 --seed 0']

A small model on the synthetic phantom, on the CPU. Every part of the training is a process of its own, which runs the
command line as a person would; the fault is injected in it at a step drawn from the seed. Compared are all tensors of
the last checkpoint: weights, state of the loss, moments of the optimizer; and the best checkpoint's weights.
"""

from __future__ import annotations

import argparse
import io
import itertools
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medzeroseg.main import main as command_line

DATA = "--data.init_args."
EPOCHS, STEPS_PER_EPOCH = 3, 8
STEPS = EPOCHS * STEPS_PER_EPOCH
EXPECTED = {
    "kill -9 before a step": -signal.SIGKILL,
    "kill -9 in the optimizer's step": -signal.SIGKILL,
    "kill -9 in the middle of a checkpoint": -signal.SIGKILL,
    "kill -9 before a checkpoint is renamed": -signal.SIGKILL,
    "kill -9 in validation": -signal.SIGKILL,
    "SIGTERM": 75,
    "SIGUSR1": 75,
    "disk full": 2,
    "NaN in a gradient": 1,
    "reader killed": 1,
}
"""Kind of fault to the exit code of the process that meets it."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and when.

    Attributes:
        kind: One of `EXPECTED`.
        step: The optimizer step, counted over the whole training, before which it happens; a checkpoint's or
            validation's fault meets the next one after it.
    """

    kind: str
    step: int


@dataclass(frozen=True)
class Outcome:
    """How a broken training went.

    Attributes:
        codes: Exit code of each part; the last is the one that came to the end.
        folder: The run's folder.
        log: Output of all parts.
    """

    codes: list[int]
    folder: Path
    log: str


def words(runs: Path, data: Path, workers: int) -> list[str]:
    """Command line of the training: 3 epochs of 8 steps, the last of them of windows, a checkpoint every 3 steps."""
    return [
        "train",
        "phantom_cehnc",
        "--resume",
        "--",
        f"--runs_dir={runs}",
        f"{DATA}root={data}",
        *(f"{DATA}{size}" for size in ("train=64", "validation=8", "test=8", "phantom_workers=0")),
        *(f"{DATA}{option}" for option in ("batch_size=8", "eval_batch_size=8", f"num_workers={workers}")),
        "--model.init_args.loss.init_args.lambda_update=adaptive",
        "--model.init_args.window_share=0.34",
        "--step_checkpoint.every_n_steps=3",
        "--trainer.accelerator=cpu",
        f"--trainer.max_epochs={EPOCHS}",
        "--trainer.check_val_every_n_epoch=1",
        "--trainer.log_every_n_steps=1",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
    ]


def train_through(faults: Sequence[Fault], runs: Path, data: Path, workers: int = 0) -> Outcome:
    """Train to the end through faults, one a part.

    Args:
        faults: In the order in which they are met.
        runs: Where the run goes.
        data: The phantom, made on first use.
        workers: Processes that read data.

    Raises:
        RuntimeError: A part ended otherwise than its fault makes it.
    """
    context = multiprocessing.get_context("forkserver")
    # imported once; the parts are forks
    context.set_forkserver_preload(["torch", "torch._dynamo", "pytest", "medzeroseg.training", "data_modules"])
    log = runs / "log.txt"
    runs.mkdir(parents=True, exist_ok=True)
    codes: list[int] = []
    for fault in [*faults, None]:
        process = context.Process(target=_part, args=(words(runs, data, workers), fault, str(log)))
        process.start()
        process.join()
        codes.append(process.exitcode or 0)
        if codes[-1] != (EXPECTED[fault.kind] if fault else 0):
            raise RuntimeError(f"exit code {codes[-1]} after {fault}; the log:\n{log.read_text()[-6000:]}")
    return Outcome(codes, runs / "phantom_cehnc" / "seed_0", log.read_text(encoding="utf-8"))


def differences(one: Path, other: Path) -> list[str]:
    """Name the tensors of two runs' last checkpoints, and the weights of their best ones, that differ in a bit."""
    found = []
    for name, parts in (
        ("last.ckpt", ("state_dict", "optimizer_states", "lr_schedulers")),
        ("best.ckpt", ("state_dict",)),
    ):
        mine, theirs = (_tensors(folder / "checkpoints" / name, parts) for folder in (one, other))
        keys = mine.keys() | theirs.keys()
        found += [f"{name}: {key}" for key in sorted(keys) if mine.get(key) != theirs.get(key)]
    return found


def draw_faults(times: int, workers: int, seed: int) -> list[Fault]:
    """Draw faults of all kinds, in an order that is drawn, too, at steps of the whole training.

    Each can still happen at the last step: checkpoint and validation follow it.
    """
    kinds = [kind for kind in EXPECTED if kind != "reader killed" or workers]
    generator = random.Random(seed)
    order = [kind for _ in range(times) for kind in generator.sample(kinds, len(kinds))]
    return [Fault(kind, generator.randrange(1, STEPS)) for kind in order]


def main(argv: Sequence[str] | None = None) -> None:
    """Print how many faults of each kind were survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=3, help="faults of each kind")
    parser.add_argument("--per-training", type=int, default=5, help="faults that one training meets")
    parser.add_argument("--workers", type=int, default=2, help="processes that read data")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    started = time.perf_counter()
    faults = draw_faults(args.times, args.workers, args.seed)
    survived: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="faults_") as folder:
        root = Path(folder)
        whole = train_through([], root / "whole", root / "phantom", args.workers)
        for number, start in enumerate(range(0, len(faults), args.per_training)):
            met = sorted(faults[start : start + args.per_training], key=lambda fault: fault.step)
            broken = train_through(met, root / f"broken_{number}", root / "phantom", args.workers)
            unequal = differences(whole.folder, broken.folder)
            if unequal:
                raise SystemExit(f"after {met}, these differ: {unequal}")
            survived.update(fault.kind for fault in met)
            print(f"training {number + 1}: {len(met)} faults, equal to the unbroken one", file=sys.stderr)
    print(f"{STEPS} steps, {args.workers} workers, seed {args.seed}; {time.perf_counter() - started:.0f} s in all\n")
    print("| fault | times | equal to the unbroken training |\n|---|---|---|")
    for kind in EXPECTED:
        if survived[kind]:
            print(f"| {kind} | {survived[kind]} | {survived[kind]} |")
    print(f"| all | {survived.total()} | {survived.total()} |")


def _part(command: list[str], fault: Fault | None, log: str) -> None:
    """Run the command line with a fault in it; the process's exit code is the command's."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    if fault is not None:
        _inject(fault)
    raise SystemExit(command_line(command))


def _inject(fault: Fault) -> None:
    import torch
    from torch.utils.data import dataloader

    from medzeroseg.callbacks.step_seeds import StepSeeds
    from medzeroseg.tasks.base import BaseTask

    here, save = os.getpid(), torch.save

    def kill(*_: object, **__: object) -> None:
        os.kill(here, signal.SIGKILL)

    def kill_a_reader() -> None:
        os.kill(_living(dataloader._MultiProcessingDataLoaderIter)[0]._workers[0].pid, signal.SIGKILL)

    def fill_the_disk() -> None:
        # The kernel's answer is handled as that of a full disk, which tests/test_checkpoint_io.py meets.
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)

        def without_room(*arguments: Any) -> None:  # noqa: ANN401 - torch's
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, unlimited[1]))
            try:
                save(*arguments)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)

        _replace(torch, "save", without_room)

    def kill_between_two_groups() -> None:
        calls = itertools.count()
        original: Any = torch.optim.AdamW._init_group

        def second(*arguments: Any) -> Any:  # noqa: ANN401 - torch's
            if next(calls):
                kill()
            return original(*arguments)

        _replace(torch.optim.AdamW, "_init_group", second)

    def spoil_a_gradient() -> None:
        original = BaseTask.on_before_optimizer_step

        def spoiled(task: BaseTask, optimizer: torch.optim.Optimizer) -> None:
            next(p.grad for p in task.parameters() if p.grad is not None).view(-1)[0] = torch.nan
            original(task, optimizer)

        _replace(BaseTask, "on_before_optimizer_step", spoiled)

    def half_written(checkpoint: dict[str, Any], stream: io.BufferedWriter) -> None:
        whole = io.BytesIO()
        save(checkpoint, whole)
        stream.write(whole.getvalue()[: whole.tell() // 2])
        stream.flush()
        kill()

    actions: dict[str, Callable[[], object]] = {
        "kill -9 before a step": kill,
        "kill -9 in the optimizer's step": kill_between_two_groups,
        "kill -9 in the middle of a checkpoint": lambda: _replace(torch, "save", half_written),
        "kill -9 before a checkpoint is renamed": lambda: _replace(Path, "replace", kill),
        "kill -9 in validation": lambda: _replace(BaseTask, "on_validation_batch_end", kill),
        "SIGTERM": lambda: os.kill(here, signal.SIGTERM),
        "SIGUSR1": lambda: os.kill(here, signal.SIGUSR1),
        "disk full": fill_the_disk,
        "NaN in a gradient": spoil_a_gradient,
        "reader killed": kill_a_reader,
    }
    seed_batch = StepSeeds.on_train_batch_start

    def watch(callback: StepSeeds, trainer: Any, *arguments: Any) -> None:  # noqa: ANN401 - Lightning's hook
        if trainer.global_step >= fault.step:
            _replace(StepSeeds, "on_train_batch_start", seed_batch)  # once
            actions[fault.kind]()
        seed_batch(callback, trainer, *arguments)

    _replace(StepSeeds, "on_train_batch_start", watch)


def _replace(owner: object, name: str, value: object) -> None:
    setattr(owner, name, value)


def _living(kind: type) -> list[Any]:
    import gc

    return [item for item in gc.get_objects() if isinstance(item, kind)]


def _tensors(path: Path, parts: Sequence[str]) -> dict[str, bytes | str]:
    import torch

    found: dict[str, bytes | str] = {}

    def collect(value: object, key: str) -> None:
        if isinstance(value, torch.Tensor):
            found[key] = (
                value.contiguous().view(-1).view(torch.uint8).numpy().tobytes() if value.ndim else repr(value.item())
            )
        elif isinstance(value, dict):
            for name, item in value.items():
                collect(item, f"{key}.{name}")
        elif isinstance(value, list | tuple):
            for number, item in enumerate(value):
                collect(item, f"{key}.{number}")
        else:
            found[key] = repr(value)

    checkpoint = torch.load(path, weights_only=True)
    for part in parts:
        collect(checkpoint[part], part)
    return found


if __name__ == "__main__":
    main()
