"""Finished segmentation runs with made-up slices, as tests leave them."""

from pathlib import Path

import numpy as np

from medzeroseg.figures import KeptSlice, KeptSlices, write_slices
from medzeroseg.figures.kept_slices import slice_dsc
from medzeroseg.tables.segmentation_records import CaseScore, MethodResult, SegmentationRecord

STRUCTURES = {"left ventricle": (3,), "myocardium": (2,)}


def heart(side: int = 32) -> np.ndarray:
    """Label ids of a disc in a ring."""
    radius = np.hypot(*(np.indices((side, side)) - side // 2))
    labels = np.zeros((side, side), np.uint8)
    labels[radius < 9] = 2
    labels[radius < 5] = 3
    return labels


def kept_slice(
    case: str, shift: int, methods: list[str], *, spacing_mm: tuple[float, float] | None = (1.5, 1.5), depth: int = 1
) -> KeptSlice:
    """A slice whose masks are the reference moved down, with a map for each method."""
    reference = heart()
    own = np.stack([reference == 3, reference == 2])
    masks = {method: np.roll(own, shift, axis=1) for method in methods}
    maps = {method: np.full((2, 8, 8), 10 * n, np.uint8) for n, method in enumerate(methods)}
    image = (reference * 60 + 40).astype(np.uint8)
    return KeptSlice(case, 0, depth, spacing_mm, image, reference, masks, maps)


def write_run(
    runs: Path,
    experiment: str,
    shifts: dict[str, int],
    *,
    dataset: str = "phantom_acdc",
    methods: dict[str, str | None] | None = None,
    seed: int = 0,
    label: str = "a model",
    keep: bool = True,
    depth: int = 1,
    spacing_mm: tuple[float, float] | None = (1.5, 1.5),
) -> Path:
    """Write a run of cases whose DSC falls with their shift.

    Args:
        runs: Folder of the runs.
        experiment: Its name.
        shifts: Case -> by how many pixels its masks are off.
        dataset: Of the record.
        methods: Key -> row in Table 3.
        seed: Of the run.
        label: The model's name.
        keep: Whether slices are kept.
        depth: Slices that the cases are said to have.
        spacing_mm: Of the slices.
    """
    rows = {"gscorecam": None} if methods is None else methods
    slices = [kept_slice(case, n, list(rows), spacing_mm=spacing_mm, depth=depth) for case, n in shifts.items()]
    scores = []
    for one in slices:
        known = one.reference != 255
        for method, masks in one.masks.items():
            for mask, (name, ids) in zip(masks, STRUCTURES.items(), strict=True):
                dsc = slice_dsc(mask, np.isin(one.reference, ids), known)
                scores.append(CaseScore(method, one.case_id, name, dsc, dsc / (2 - dsc), 0.75, 1.0, 50, 50))
    record = SegmentationRecord(
        experiment=experiment,
        label=label,
        dataset=dataset,
        published_row=None,
        seed=seed,
        methods=[MethodResult(key, f"title of {key}", "-", 1.0, table3_row=row) for key, row in rows.items()],
        git_revision="abc",
        config_hash="12345678",
        environment={},
        scores=scores,
    )
    folder = runs / experiment / f"seed_{seed}"
    folder.mkdir(parents=True)
    record.write(folder)
    if keep:
        write_slices(KeptSlices(STRUCTURES, slices, len(slices)), folder)
    return folder
