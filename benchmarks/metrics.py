"""DSC, HD95 and NSD of a label map against MONAI and surface-distance, and retrieval in the full gallery.

    make bench BENCH=metrics [ARGS='--rounds 3 --quick']

A 512x512x150 label map with 8 organs, and a prediction that is shifted and grown. Everyone starts from the two label
maps, takes one organ after the other, and is compared at its own definition of a surface.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
from numpy.typing import NDArray

from benchmarks.timing import interleaved_medians, machine
from medzeroseg.metrics import (
    BorderVoxels,
    Surface,
    SurfaceElements,
    cross_modal_ranks,
    overlap_scores,
    surface_scores,
)

surface_distance = import_module("surface_distance") if find_spec("surface_distance") else None

SPACING_MM = (3.0, 0.8, 0.8)
TOLERANCE_MM = 2.0
#: centre and radii of each organ, in voxels of a 150 x 512 x 512 volume: about a liver, a spleen, two kidneys, ...
ORGANS = (
    ((75, 200, 180), (45, 90, 110)),
    ((80, 220, 380), (25, 40, 40)),
    ((70, 310, 200), (25, 28, 25)),
    ((70, 310, 360), (25, 28, 25)),
    ((95, 150, 310), (15, 18, 60)),
    ((75, 330, 270), (60, 12, 12)),
    ((60, 370, 240), (50, 14, 14)),
    ((100, 330, 430), (25, 40, 35)),
)
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Maps:
    """Two label maps (D, H, W) uint8."""

    reference: NDArray[np.uint8]
    prediction: NDArray[np.uint8]

    def ours(self, surface: Surface) -> Scores:
        """DSC, HD95 and NSD of each organ, (8, 3)."""
        rows = []
        for label in range(1, len(ORGANS) + 1):
            found, true = (torch.from_numpy(x == label)[None] for x in (self.prediction, self.reference))
            dsc, _ = overlap_scores(found, true)
            rows.append((dsc, *surface_scores(found, true, SPACING_MM, tolerance=TOLERANCE_MM, surface=surface)))
        return np.array(rows, dtype=np.float64).reshape(-1, 3)

    def monai(self) -> Scores:
        """The same by MONAI."""
        rows = []
        for label in range(1, len(ORGANS) + 1):
            found, true = (torch.from_numpy(x == label)[None, None] for x in (self.prediction, self.reference))
            dsc = compute_dice(found.float(), true.float())
            options = {"include_background": True, "spacing": SPACING_MM}
            hd95 = compute_hausdorff_distance(found, true, percentile=95, **options)
            nsd = compute_surface_dice(found, true, [TOLERANCE_MM], **options)
            rows.append((float(dsc), float(hd95), float(nsd)))
        return np.array(rows)

    def surface_distance(self) -> Scores:
        """The same by surface-distance."""
        assert surface_distance is not None
        rows = []
        for label in range(1, len(ORGANS) + 1):
            found, true = self.prediction == label, self.reference == label
            distances = surface_distance.compute_surface_distances(true, found, SPACING_MM)
            dsc = surface_distance.compute_dice_coefficient(true, found)
            hd95 = surface_distance.compute_robust_hausdorff(distances, 95)
            rows.append((dsc, hd95, surface_distance.compute_surface_dice_at_tolerance(distances, TOLERANCE_MM)))
        return np.array(rows)


def organs(shift: int, growth: float, quick: bool) -> NDArray[np.uint8]:
    """A label map of ellipsoids; `quick`: a quarter of the size along each axis."""
    scale = 4 if quick else 1
    labels = np.zeros((150 // scale, 512 // scale, 512 // scale), dtype=np.uint8)
    for label, (centre, radii) in enumerate(ORGANS, start=1):
        middle = [at / scale + step for at, step in zip(centre, (shift, 2 * shift, -shift), strict=True)]
        axes = [np.arange(size) for size in labels.shape]
        parts = [((a - m) / (r * growth / scale)) ** 2 for a, m, r in zip(axes, middle, radii, strict=True)]
        labels[(parts[0][:, None, None] + parts[1][:, None] + parts[2]) <= 1] = label
    return labels


def surfaces(rounds: int, quick: bool) -> list[str]:
    """Rows of the table."""
    maps = Maps(organs(0, 1.0, quick), organs(1, 1.02, quick))
    contenders: dict[str, Callable[[], Scores]] = {"ours": partial(maps.ours, BorderVoxels()), "monai": maps.monai}
    if surface_distance is not None:
        contenders["ours, elements"] = partial(maps.ours, SurfaceElements())
        contenders["surface-distance"] = maps.surface_distance
    results: dict[str, Scores] = {}
    timed = {name: partial(_keep, results, name, run) for name, run in contenders.items()}
    seconds = interleaved_medians(timed, rounds, torch.device("cpu"), warm_up=0 if quick else 1)
    fastest = min((name for name in seconds if not name.startswith("ours")), key=seconds.__getitem__)
    rows = []
    for name, peer in (("ours", "monai"), ("ours, elements", "surface-distance")):
        if name in seconds:
            detail = f"{seconds[name]:.2f} s / {seconds[fastest]:.2f} s"
            rows.append(
                _row(f"{name}, DSC + HD95 + NSD of 8 organs / {fastest}", seconds[name] / seconds[fastest], 0.5, detail)
            )
            apart = float(np.abs(results[name] - results[peer]).max())
            rows.append(
                _row(f"{name}: largest difference from {peer}, mm or share", apart, 1e-3, f"{seconds[peer]:.2f} s")
            )
    if surface_distance is None:
        rows.append("| surface-distance is not installed: `pip install surface-distance` | - | - | - | - |")
    return rows


def retrieval(rounds: int, quick: bool) -> str:
    """Full gallery of 8,182 pairs, both directions."""
    count = 818 if quick else 8182
    generator = torch.Generator().manual_seed(0)
    images = torch.nn.functional.normalize(torch.randn(count, 512, generator=generator), dim=1)
    noise = 0.2 * torch.randn(count, 512, generator=generator)
    texts = torch.nn.functional.normalize(images + noise, dim=1)
    ids = torch.randint(count, (count,), generator=generator)
    run = partial(cross_modal_ranks, images, texts, ids)
    seconds = interleaved_medians({"ours": run}, rounds, torch.device("cpu"))["ours"]
    detail = f"{torch.get_num_threads()} threads; one tile is at most 4 MiB, the matrix {4 * count**2 / 2**20:.0f} MiB"
    return _row(f"retrieval of {count} pairs, both directions, s", seconds, 1.0, detail)


def _keep(results: dict[str, Scores], name: str, run: Callable[[], Scores]) -> None:
    results[name] = run()


def _row(figure: str, found: float, target: float, detail: str) -> str:
    shown = f"{found:.2f}" if found >= 0.01 else f"{found:.1e}"
    return f"| {figure} | {shown} | <= {target:g} | {'yes' if found <= target else 'no'} | {detail} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds")
    parser.add_argument("--quick", action="store_true", help="one round of small volumes: does it still run?")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # of the peers
    warnings.filterwarnings("ignore", category=FutureWarning)
    rounds = 1 if arguments.quick else arguments.rounds
    print(f"{machine(torch.device('cpu'))}; monai {version('monai')}, scipy {version('scipy')}\n")
    print("| figure | found | target | reached | detail |\n|---|---|---|---|---|")
    for row in surfaces(rounds, arguments.quick):
        print(row, flush=True)
    print(retrieval(rounds, arguments.quick))


if __name__ == "__main__":
    main()
