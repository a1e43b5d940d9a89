"""Fine-tuning of BiomedCLIP: our training beside open_clip's own loop, pairs a second, memory, share of the peak rate.

    make bench BENCH=training [ARGS='--batch 256 --steps 20 --rounds 5']

BiomedCLIP's architecture (ViT-B/16 at 224 pixels, PubMedBERT with 256 tokens) with random weights, bf16 autocast,
AdamW, gradients clipped, compiled; batches wait in pinned memory, so the loading of data is no part of it. Ours is the
contrastive task with CEHNC in Lightning's loop, with the trainer's settings and both loggers of `make train`, and those
of its callbacks that work in every step: seeds, stall clock, learning rates, throughput. It has no validation,
checkpoints or test, nor the callbacks that belong to them. The peer is `open_clip_train.train.train_one_epoch` with
ClipLoss and `torch.compile` of the whole model, as its `--torchcompile` does. They take turns, epoch by epoch.

Captions are of 256 tokens, where nothing can be saved, or as long as ROCO's: 5 % quantiles of the 8,179 real captions
of its test split, counted with CLIP's tokenizer. The peer pads each to 256; ours computes no padding.

Operations are counted by torch (`FlopCounterMode`: products, convolutions, attention) in the forward pass of what each
side computes, times three for forward and backward.
"""

from __future__ import annotations

import argparse
import copy
import logging
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
import torch.utils.deterministic
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from open_clip.loss import ClipLoss
from open_clip_train.train import train_one_epoch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import machine, synchronise
from medzeroseg.callbacks import Throughput
from medzeroseg.callbacks.stall_clock import StallClock
from medzeroseg.callbacks.step_seeds import StepSeeds
from medzeroseg.losses import CEHNCLoss
from medzeroseg.models import ImageTextModel
from medzeroseg.tasks import ContrastiveTask
from medzeroseg.tasks.performance import Performance
from tests.helpers.fake_models import write_biomedclip_folder

GIB = 2**30
ROCO_LENGTHS = (4, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 33, 36, 39, 43, 48, 54, 63, 80, 256)
PEAK_FLOPS = {"H100": 989.4e12, "H200": 989.4e12, "A100": 312e12}
"""Dense bfloat16 operations a second by data sheet, SXM."""
VOCABULARY = 30522
DISTINCT_BATCHES = 4


class Batches:
    """An epoch of batches that wait in memory, for both loops."""

    def __init__(self, count: int, batch: int, size_px: int, lengths: tuple[int, ...], pinned: bool) -> None:
        generator = torch.Generator().manual_seed(0)
        self.num_batches, self.num_samples = count, count * batch
        self._made = []
        for number in range(min(count, DISTINCT_BATCHES)):
            images = torch.randn(batch, 3, size_px, size_px, generator=generator)
            tokens = random_captions(batch, lengths, generator)
            named = {
                "image": images.pin_memory() if pinned else images,
                "tokens": tokens.pin_memory() if pinned else tokens,
                "text_id": torch.arange(batch),
                "index": torch.arange(batch),
                "case_id": [f"pair {number}.{i}" for i in range(batch)],
            }
            self._made.append(named)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.num_batches

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """A few batches, over and over."""
        return (self._made[i % len(self._made)] for i in range(self.num_batches))


class AsTuples:
    """The same, in the form that open_clip reads."""

    def __init__(self, batches: Batches) -> None:
        self.dataloader = self
        self.num_batches, self.num_samples = batches.num_batches, batches.num_samples
        self._batches = batches

    def set_epoch(self, epoch: int) -> None:
        """Nothing is shuffled."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and token ids."""
        return ((batch["image"], batch["tokens"]) for batch in self._batches)


def random_captions(batch: int, lengths: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Token ids ``(batch, 256)``, 0 where padded; lengths are drawn uniformly between neighbouring quantiles."""
    place = torch.rand(batch, generator=generator) * (len(lengths) - 1)
    low = torch.tensor(lengths)[place.floor().long()]
    high = torch.tensor(lengths)[place.ceil().long()]
    length = (low + (high - low) * place.frac()).round().long()
    tokens = torch.randint(200, VOCABULARY, (batch, 256), generator=generator)
    return tokens * (torch.arange(256) < length[:, None])


class Peer:
    """open_clip's loop with a model of its own."""

    def __init__(self, clip: nn.Module, batch: int, device: torch.device, compiled: bool) -> None:
        clip.output_dict = True  # type: ignore[assignment]
        self.clip = clip.to(device)
        self.model: Any = torch.compile(self.clip) if compiled else self.clip
        decayed = [p for p in clip.parameters() if p.ndim >= 2]
        others = [p for p in clip.parameters() if p.ndim < 2]
        groups = [{"params": others, "weight_decay": 0.0}, {"params": decayed, "weight_decay": 0.1}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-6, betas=(0.9, 0.98), eps=1e-6)
        self.args = SimpleNamespace(
            device=str(device),
            precision="amp_bf16",
            distill=False,
            accum_freq=1,
            skip_scheduler=True,
            horovod=False,
            grad_clip_norm=1.0,
            log_every_n_steps=100,
            rank=0,
            local_rank=0,
            log_local=False,
            batch_size=batch,
            world_size=1,
            wandb=False,
        )
        self.loss = ClipLoss()

    def epoch(self, batches: Batches) -> None:
        """One epoch, as it is."""
        data = {"train": AsTuples(batches)}
        train_one_epoch(self.model, data, self.loss, 0, self.optimizer, None, None, None, self.args)


class TakeTurns(Callback):
    """Times each of our epochs, and one of the peer after it."""

    def __init__(self, peer: Peer, batches: Batches, device: torch.device, warm_up: int) -> None:
        self.peer, self.batches, self.device, self.warm_up = peer, batches, device, warm_up
        self.seconds: dict[str, list[float]] = {"ours": [], "open_clip": []}
        self.peak: dict[str, int] = {"ours": 0, "open_clip": 0}
        self._start = 0.0

    def _begin(self) -> None:
        synchronise(self.device)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self._start = time.perf_counter()

    def _end(self, name: str, epoch: int, other: nn.Module) -> None:
        synchronise(self.device)
        if epoch >= self.warm_up:
            self.seconds[name].append(time.perf_counter() - self._start)
            if self.device.type == "cuda":  # without the other's weights, gradients and two moments
                idle = 4 * sum(p.numel() * p.element_size() for p in other.parameters())
                self.peak[name] = torch.cuda.max_memory_allocated() - idle

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ours begins."""
        self._begin()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ours has ended; the other has its turn."""
        self._end("ours", trainer.current_epoch, self.peer.clip)
        self._begin()
        self.peer.epoch(self.batches)
        self._end("open_clip", trainer.current_epoch, pl_module)


def operations(model: nn.Module, batch: dict[str, Any], device: torch.device) -> float:
    """Floating-point operations of forward and backward for a pair, as `model` computes it."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
        model(batch["image"].to(device), batch["tokens"].to(device))
    return 3.0 * counter.get_total_flops() / len(batch["image"])


def matmul_rate(device: torch.device, side: int = 8192, rounds: int = 10) -> float:
    """Operations a second of a large bfloat16 product of random matrices."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(rounds + 3):
        synchronise(device)
        start = time.perf_counter()
        torch.mm(a, b)
        synchronise(device)
        seconds.append(time.perf_counter() - start)
    return 2.0 * side**3 / median(seconds[3:])


@dataclass(frozen=True)
class Contest:
    """Both sides: the same weights, each with its copy; they are kept, and stay compiled, for all kinds of captions."""

    task: ContrastiveTask
    peer: Peer
    args: argparse.Namespace
    device: torch.device

    @classmethod
    def make(cls, folder: Path, args: argparse.Namespace, device: torch.device) -> Contest:
        """Build them from a model's folder."""
        torch.manual_seed(0)
        model = ImageTextModel(f"local-dir:{folder}")
        task = ContrastiveTask(
            model,
            CEHNCLoss(duplicate_texts="ignore"),
            optimizer=lambda groups: torch.optim.AdamW(groups, lr=1e-6, weight_decay=0.1, fused=True),
            performance=Performance(compile=args.compile, compile_unit=args.unit),
        )
        return cls(task, Peer(copy.deepcopy(model.clip), args.batch, device, args.compile), args, device)

    def rows(self, captions: str, lengths: tuple[int, ...]) -> list[str]:
        """Train both on captions of such lengths; two rows of the table."""
        args, device, model = self.args, self.device, self.task.model
        batches = Batches(args.steps, args.batch, model.image_size_px[0], lengths, pinned=device.type == "cuda")
        turns = TakeTurns(self.peer, batches, device, args.warm_up)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # as our CLI
        with tempfile.TemporaryDirectory() as run:
            trainer = Trainer(
                default_root_dir=run,
                accelerator="gpu" if device.type == "cuda" else "cpu",
                devices=1,
                precision="bf16-mixed",
                max_epochs=args.warm_up + args.rounds,
                gradient_clip_val=1.0,
                deterministic=None if args.deterministic == "no" else "warn",
                log_every_n_steps=10,
                enable_progress_bar=False,
                enable_checkpointing=False,
                enable_model_summary=False,
                logger=[CSVLogger(run), TensorBoardLogger(run)],
                callbacks=[StepSeeds(0), StallClock(), LearningRateMonitor("step"), Throughput(), turns],
            )
            trainer.fit(self.task, train_dataloaders=batches)
        batch = next(iter(batches))
        counted = {
            "ours": operations(model.to(device), batch, device),
            "open_clip": operations(self.peer.clip, batch, device),
        }
        pairs = {name: args.steps * args.batch / median(seconds) for name, seconds in turns.seconds.items()}
        rows = []
        for name, rate in pairs.items():
            achieved = rate * counted[name]
            cells = (captions, name, f"{rate:.0f}", f"{rate / pairs['open_clip']:.2f}", f"{counted[name] / 1e9:.0f}")
            rows.append(f"| {' | '.join(cells)} | {share_of_peak(achieved, device)} | {turns.peak[name] / GIB:.1f} |")
        return rows


def share_of_peak(achieved: float, device: torch.device) -> str:
    """Of the data sheet's rate for dense bfloat16, in percent, where it is known."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    peak = next((rate for gpu, rate in PEAK_FLOPS.items() if gpu in name), None)
    return "no data sheet" if peak is None else f"{100 * achieved / peak:.1f} %"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20, help="of an epoch")
    parser.add_argument("--rounds", type=int, default=5, help="timed epochs of each")
    parser.add_argument("--warm-up", type=int, default=2, help="epochs before them, which compile")
    parser.add_argument("--captions", choices=("both", "full", "roco"), default="both")
    parser.add_argument("--deterministic", choices=("warn", "no"), default="warn", help="warn is `make train`'s")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--unit", choices=("block", "tower"), default="block", help="what we compile as one")
    parser.add_argument("--tiny", action="store_true", help="two small towers: does it run?")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    device = torch.device(args.device)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    torch.set_float32_matmul_precision("high")
    print(f"{machine(device)}, open_clip {version('open_clip_torch')}, timm {version('timm')}", end="; ")
    print(
        f"bf16-mixed, batch {args.batch}, {f'compiled by {args.unit}' if args.compile else 'not compiled'}", flush=True
    )
    if device.type == "cuda":
        print(f"bf16 product of 8192 x 8192 matrices: {matmul_rate(device) / 1e12:.0f} TFLOP/s", flush=True)
    print("\n| captions | loop | pairs/s | ratio | GFLOP a pair | MFU | peak memory, GiB |")
    print("|---|---|---|---|---|---|---|")
    kinds = {"roco": ("as long as ROCO's", ROCO_LENGTHS), "full": ("256 tokens each", (256, 256))}
    with tempfile.TemporaryDirectory() as folder:
        words = [f"word{i}" for i in range(VOCABULARY)]
        path = write_biomedclip_folder(Path(folder) / "model", tiny=args.tiny, safetensors=True, vocab_words=words)
        contest = Contest.make(path, args, device)
        for name, (captions, lengths) in kinds.items():
            if args.captions in ("both", name):
                print("\n".join(contest.rows(captions, lengths)), flush=True)


if __name__ == "__main__":
    main()
