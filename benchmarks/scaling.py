"""Two gloo processes against one with the same cores: what data-parallel training costs on one machine.

    make bench BENCH=scaling [ARGS='--rounds 5 --steps 20 --batch 64']

The small image-text model with CEHNC, forward, backward and AdamW on random pairs in memory. The two processes have
half of the cores and half of the batch each, gather the negatives of the whole batch and average gradients (DDP), as
a training does. They take turns with the one, round by round; medians. Efficiency is the ratio of pairs a second.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.timing import machine
from data_modules.cores import usable_cores
from medzeroseg.losses import CEHNCLoss
from medzeroseg.models import ImageTextModel

WARM_UP = 3
PATIENCE_S = 1200.0


class Step(nn.Module):
    """Model and loss in one module: DDP wants one forward."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = ImageTextModel("small")
        self.loss = CEHNCLoss()

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        """(B, 3, H, W), (B, L) -> scalar."""
        loss: Tensor = self.loss(*self.model(images, tokens))
        return loss


def pairs_per_second(step: nn.Module, batch: int, size_px: int, steps: int) -> float:
    """Pairs of this process a second, over `steps` training steps."""
    tokenizer = ImageTextModel("small").tokenizer
    images = torch.rand(batch, 3, size_px, size_px)
    tokens = tokenizer([f"chest X-ray, number {i}" for i in range(batch)])
    optimizer = torch.optim.AdamW(step.parameters(), lr=1e-4, fused=True)
    start = 0.0
    for number in range(WARM_UP + steps):
        if number == WARM_UP:
            start = time.perf_counter()
        optimizer.zero_grad()
        step(images, tokens).backward()
        optimizer.step()
    return batch * steps / (time.perf_counter() - start)


def take_turns(rank: int, turn: Barrier, meeting: str, args: argparse.Namespace, results: Any) -> None:  # noqa: ANN401 - a queue
    """One of the two processes: half of the pair, then, if it is the first, the one on its own."""
    for number in range(args.rounds):
        turn.wait()
        torch.set_num_threads(max(1, args.cores // 2))
        distributed.init_process_group("gloo", init_method=f"file://{meeting}_{number}", rank=rank, world_size=2)
        results.put(
            ("two", pairs_per_second(DistributedDataParallel(Step()), args.batch // 2, args.size_px, args.steps))
        )
        distributed.destroy_process_group()
        turn.wait()
        if rank == 0:
            torch.set_num_threads(args.cores)
            results.put(("one", pairs_per_second(Step(), args.batch, args.size_px, args.steps)))


def main() -> None:
    """Print both rates and the efficiency."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64, help="of the one process; half of it of each of the two")
    parser.add_argument("--size-px", type=int, default=112)
    parser.add_argument("--cores", type=int, default=usable_cores(), help="of the one process (default: all)")
    args = parser.parse_args()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the host's name need not resolve
    context = multiprocessing.get_context("spawn")
    results, turn = context.SimpleQueue(), context.Barrier(2, timeout=PATIENCE_S)
    with tempfile.TemporaryDirectory(prefix="scaling_") as folder:
        meeting = str(Path(folder) / "meeting")
        given = (turn, meeting, args, results)
        team = [context.Process(target=take_turns, args=(rank, *given), daemon=True) for rank in range(2)]
        for process in team:
            process.start()
        for process in team:
            process.join()
            if process.exitcode:
                raise SystemExit(f"a process ended with exit code {process.exitcode}")
    rates: dict[str, list[float]] = {"one": [], "two": []}
    while not results.empty():
        kind, rate = results.get()
        rates[kind].append(rate)
    one, two = statistics.median(rates["one"]), 2 * statistics.median(rates["two"])
    print(machine(torch.device("cpu")), f"{args.cores} cores, batch {args.batch}, {args.size_px} px\n", sep="; ")
    print("| processes | threads each | pairs/s |\n|---|---|---|")
    print(f"| 1 | {args.cores} | {one:.1f} |\n| 2 (gloo) | {max(1, args.cores // 2)} | {two:.1f} |\n")
    print(f"efficiency: {two / one:.2f}")


if __name__ == "__main__":
    main()
