"""CEHNC against open_clip's ClipLoss: time forward and backward, memory, share of the matmul rate.

    make bench BENCH=losses [ARGS='--sizes 512 2048 --rounds 5 --device cuda']
    make bench BENCH=losses ARGS=--parts    where the time goes, by torch's profiler

What the bound rests on. With M pairs of width D one product of embeddings takes 2 M^2 D operations. The value needs
S = Z S^T, the gradients G S and G^T Z: three products are necessary where one S serves both directions. ClipLoss
multiplies twice forward and four times backward. All else is a number of passes over M^2 elements; the strips make
them in cache, where the matrix is written and read once or twice each way.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from open_clip.loss import ClipLoss
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.timing import interleaved_medians, machine, synchronise
from medzeroseg.losses import CEHNCLoss

WIDTH = 512
MIB = 2**20
PART_OF = {
    "aten::mm": "products",  # the page faults of the matrix kept are in here: it is written by a product first
    "aten::addmm_": "products",
    "aten::exp2_": "exponentials",
    "aten::copy_": "transposition",
    "aten::_embedding_bag": "sparse products",
    "_Tiled": "partition by numpy, and Python",
}


@dataclass(frozen=True)
class Row:
    """One line of the table: what, where, how much, and what it should be."""

    figure: str
    pairs: int
    found: float
    target: float
    smaller_is_better: bool
    detail: str

    def markdown(self) -> str:
        """As a table row."""
        reached = self.found <= self.target if self.smaller_is_better else self.found >= self.target
        sign = "<=" if self.smaller_is_better else ">="
        return (
            f"| {self.figure} | {self.pairs} | {self.found:.2f} | {sign} {self.target:.2f} "
            f"| {'yes' if reached else 'no'} | {self.detail} |"
        )


def embeddings(pairs: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Image and text embeddings that resemble each other, and a logit scale; all require gradients."""
    generator = torch.Generator().manual_seed(0)
    images = F.normalize(torch.randn(pairs, WIDTH, generator=generator), dim=1)
    texts = F.normalize(images + 2 * F.normalize(torch.randn(pairs, WIDTH, generator=generator), dim=1), dim=1)
    tensors = (images, texts, torch.tensor(1 / 0.07))
    return tuple(t.to(device).requires_grad_() for t in tensors)  # type: ignore[return-value]


def forward_and_backward(loss: nn.Module, inputs: tuple[Tensor, Tensor, Tensor]) -> Callable[[], None]:
    """One training step's share of the loss."""

    def run() -> None:
        for tensor in inputs:
            tensor.grad = None
        loss(*inputs).backward()

    return run


def products(inputs: tuple[Tensor, Tensor, Tensor]) -> dict[str, Callable[[], object]]:
    """The three necessary products alone, into memory that is there already."""
    images, texts = inputs[0].detach(), inputs[1].detach()
    similarity = images.new_empty(len(images), len(texts))
    by_images, by_texts = torch.empty_like(images), torch.empty_like(texts)
    return {
        "Z S^T": lambda: torch.mm(images, texts.T, out=similarity),
        "G S": lambda: torch.mm(similarity, texts, out=by_images),
        "G^T Z": lambda: torch.mm(similarity.T, images, out=by_texts),
    }


def ratios(pairs: int, rounds: int, device: torch.device) -> list[Row]:
    """Time ratios to ClipLoss at one size."""
    inputs = embeddings(pairs, device)
    losses: dict[str, nn.Module] = {"ClipLoss": ClipLoss(), "auto": CEHNCLoss()}
    if pairs <= 2048:
        losses["dense"] = CEHNCLoss(tile_size=None)
    if pairs >= 8192:
        losses["32 hard"] = CEHNCLoss(hard_count=32)
        losses["a quarter"] = CEHNCLoss(hard_fraction=0.25)
        losses["unequal"] = CEHNCLoss(lambda_text_to_image=2.0)
    contenders: dict[str, Callable[[], object]] = {n: forward_and_backward(x, inputs) for n, x in losses.items()}
    if pairs >= 8192:
        contenders.update(products(inputs))
    seconds = interleaved_medians(contenders, rounds, device)
    clip = seconds["ClipLoss"]

    def against(name: str) -> str:
        return f"{1e3 * seconds[name]:.1f} ms / {1e3 * clip:.1f} ms"

    def ratio(name: str, figure: str, target: float) -> Row:
        return Row(figure, pairs, seconds[name] / clip, target, True, against(name))

    rows = [ratio("auto", "CEHNC, tile_size auto / ClipLoss", {512: 0.8, 2048: 0.65}.get(pairs, 0.5))]
    if "dense" in seconds:
        rows.append(ratio("dense", "CEHNC, dense / ClipLoss", 0.9))
    if "32 hard" in seconds:
        rows.append(ratio("unequal", "the same, lambda 1 and 2: two exponentials", 0.5))
        rows.append(ratio("32 hard", "CEHNC, hard_count 32 / ClipLoss", 0.3))
        share = seconds["a quarter"] / seconds["auto"]
        detail = f"{1e3 * seconds['a quarter']:.1f} ms / {1e3 * seconds['auto']:.1f} ms"
        rows.append(Row("CEHNC, hard_fraction 0.25 / 1.0", pairs, share, 1.0, True, detail))
        operations = 2.0 * pairs**2 * WIDTH
        rate = operations / min(seconds[name] for name in products(inputs))
        reached = 3 * operations / seconds["auto"]
        detail = f"{reached / 1e9:.0f} of {rate / 1e9:.0f} GFLOP/s, the fastest of the three products alone"
        rows.append(Row("share of the matmul rate, 3 products", pairs, reached / rate, 0.65, False, detail))
    return rows


def parts(pairs: int, steps: int = 2) -> list[str]:
    """Where a step's time goes on a CPU: a line for each way of computing, from the operators' own times."""
    inputs = embeddings(pairs, torch.device("cpu"))
    losses = {
        "auto": CEHNCLoss(),
        "unequal lambdas": CEHNCLoss(lambda_text_to_image=2.0),
        "hard_count 32": CEHNCLoss(hard_count=32),
        "hard_fraction 0.25": CEHNCLoss(hard_fraction=0.25),
    }
    lines = []
    for name, loss in losses.items():
        step = forward_and_backward(loss, inputs)
        step()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            for _ in range(steps):
                step()
        spent: Counter[str] = Counter()
        for event in profile.key_averages():
            spent[PART_OF.get(event.key, "other passes")] += event.self_cpu_time_total
        total = sum(spent.values())
        shares = ", ".join(f"{part} {100 * time / total:.1f} %" for part, time in spent.most_common())
        lines.append(f"{name}, M = {pairs}, {total / 1e3 / steps:.0f} ms: {shares}")
    return lines


def peak_memory(pairs: int, device: torch.device) -> Row:
    """What a tiled forward and backward needs beyond its inputs, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        peak = pool.apply(_peak_bytes, (pairs, device.type))
    detail = f"one M x M matrix: {4 * pairs**2 / MIB:.0f} MiB; dense holds at least three"
    return Row("tiled peak memory beyond inputs, MiB", pairs, peak / MIB, 512.0, True, detail)


def _peak_bytes(pairs: int, device_type: str) -> int:
    device = torch.device(device_type)
    forward_and_backward(CEHNCLoss(tile_size=64), embeddings(1024, device))()  # the libraries' own memory
    inputs = embeddings(pairs, device)
    step = forward_and_backward(CEHNCLoss(), inputs)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        synchronise(device)
        return torch.cuda.max_memory_allocated(device) - before
    before = _resident_peak()
    step()
    return _resident_peak() - before


def _resident_peak() -> int:
    """The most memory this process has held. Not getrusage's figure: that one starts at the parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM: peak memory on a CPU is measured on Linux only")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 2048, 8192], help="numbers of pairs")
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds at 8,192 pairs; more at smaller sizes")
    parser.add_argument("--memory-pairs", type=int, default=32768, help="0 leaves the memory out")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--parts", action="store_true", help="only print where the time goes, on the CPU")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if arguments.parts:
        print("\n".join([machine(torch.device("cpu")), *parts(max(arguments.sizes))]))
        return
    print(f"{machine(device)}, open_clip {version('open_clip_torch')}; float32, D = {WIDTH}\n")
    for pairs in arguments.sizes:
        count = 2.0 * pairs**2 * WIDTH
        print(
            f"M = {pairs}: {3 * count / 1e9:.1f} GFLOP in three products (ClipLoss: {6 * count / 1e9:.1f}); "
            f"one M x M matrix {4 * pairs**2 / MIB:.0f} MiB, the embeddings {8 * pairs * WIDTH / MIB:.0f} MiB"
        )
    print("\n| figure | M | found | target | reached | medians |\n|---|---|---|---|---|---|")
    for pairs in arguments.sizes:
        more = statistics.mean([1.0, min(8192 / pairs, 9.0)])
        for row in ratios(pairs, round(arguments.rounds * more), device):
            print(row.markdown(), flush=True)
    if arguments.memory_pairs:
        print(peak_memory(arguments.memory_pairs, device).markdown())


if __name__ == "__main__":
    main()
