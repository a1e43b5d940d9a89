"""Where a result comes from: revision, configuration, versions, machine."""

import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

# Of a configuration: what differs between the seeds and the machines of one experiment
_NO_SETTINGS = (
    "seed",
    "root",
    "cache_dir",
    "checkpoint",
    "num_workers",
    "phantom_workers",
    "pin_memory",
    "persistent_workers",
)
_PACKAGES = ("torch", "lightning", "open_clip_torch", "timm", "torchmetrics", "monai")


@cache
def git_revision() -> str:
    """Revision of the code that runs, with `-dirty` where tracked files were changed; `unknown` outside a checkout."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"  # no git on this machine
    return result.stdout.strip() if result.returncode == 0 else "unknown"


def config_hash(config: dict[str, Any]) -> str:
    """Eight hex digits of a configuration, independent of the order of its keys and equal for all its seeds."""
    text = json.dumps(_settings(config), sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:8]


def _settings(value: Any) -> Any:  # noqa: ANN401 - any plain value
    if isinstance(value, dict):
        return {key: _settings(item) for key, item in value.items() if key not in _NO_SETTINGS}
    return [_settings(item) for item in value] if isinstance(value, list) else value


def describe_environment(trainer: Trainer) -> dict[str, str]:
    """Versions, machine and the shape of the run; nothing that identifies a person or a patient."""
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    # ru_maxrss is in KiB on Linux and in bytes on macOS
    unit = 1 if sys.platform == "darwin" else 1024
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "machine": f"{accelerator}, {torch.get_num_threads()} threads",
        "world_size": str(trainer.world_size),
        "precision": str(trainer.precision),
        "peak_memory_main_process_gib": f"{peak_gib:.2f}",
    }


def describe_job() -> dict[str, str]:
    """Number, nodes and restarts of the Slurm job that this process belongs to; empty outside one."""
    names = ("JOB_ID", "ARRAY_JOB_ID", "ARRAY_TASK_ID", "JOB_NODELIST", "RESTART_COUNT")
    return {name.lower(): os.environ[f"SLURM_{name}"] for name in names if f"SLURM_{name}" in os.environ}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
