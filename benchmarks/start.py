"""How long a person waits for `--help`, against `python -c "import torch"`.

    make bench BENCH=start [ARGS='--rounds 8']

Each round starts every command once, as a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from functools import partial
from pathlib import Path

import torch

from benchmarks.timing import interleaved_medians, machine

MOST_S = 1.5
COMMAND = str(Path(sys.executable).with_name("medzeroseg"))
COMMANDS = {
    "medzeroseg --help": [COMMAND, "--help"],
    "medzeroseg segment --help": [COMMAND, "segment", "--help"],
    'python -c "import torch"': [sys.executable, "-c", "import torch"],
    'python -c "pass"': [sys.executable, "-c", "pass"],
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args()
    device = torch.device("cpu")
    started = {
        name: partial(subprocess.run, words, stdout=subprocess.DEVNULL, check=True) for name, words in COMMANDS.items()
    }
    medians = interleaved_medians(started, args.rounds, device)
    print(machine(device), "\n")
    print("| command | median, s | target | reached |\n|---|---|---|---|")
    for name, seconds in medians.items():
        target = ("<= 1.5", "yes" if seconds <= MOST_S else "no") if name.endswith("--help") else ("", "")
        print(f"| `{name}` | {seconds:.2f} | {target[0]} | {target[1]} |")


if __name__ == "__main__":
    main()
