"""Fair timings: the contenders take turns, so that whatever slows the machine slows all of them."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch


def interleaved_medians(
    contenders: Mapping[str, Callable[[], object]], rounds: int, device: torch.device, warm_up: int = 1
) -> dict[str, float]:
    """Median seconds of each contender over ``rounds`` rounds, in which each runs once.

    Args:
        contenders: what to run, by name.
        rounds: how often.
        device: synchronised before and after each run.
        warm_up: rounds before those that count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(warm_up + rounds):
        for name, run in contenders.items():
            synchronise(device)
            start = time.perf_counter()
            run()
            synchronise(device)
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def synchronise(device: torch.device) -> None:
    """Wait for the device's work; nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def machine(device: torch.device) -> str:
    """The hardware and the versions a figure depends on, in one line."""
    if device.type == "cuda":
        hardware = torch.cuda.get_device_name(device)
    else:
        hardware = f"{_processor()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    return f"{hardware}; torch {torch.__version__}, Python {platform.python_version()}, {platform.system()}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
