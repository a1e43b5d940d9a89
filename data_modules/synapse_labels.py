"""The label conventions of Synapse's multi-organ CT, the lookup between them, and checks that tell them apart."""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from data_modules.cases import BACKGROUND

Convention = Literal["btcv13", "transunet8", "samed8"]

LABEL_NAMES: dict[Convention, dict[int, str]] = {
    # Landman et al., "Multi-atlas labeling beyond the cranial vault" (2015), Synapse syn3193805: the raw form.
    "btcv13": {
        1: "spleen",
        2: "right kidney",
        3: "left kidney",
        4: "gallbladder",
        5: "esophagus",
        6: "liver",
        7: "stomach",
        8: "aorta",
        9: "inferior vena cava",
        10: "portal and splenic vein",
        11: "pancreas",
        12: "right adrenal gland",
        13: "left adrenal gland",
    },
    # Chen et al., "TransUNet" (2021), datasets/README.md of its repository.
    "transunet8": {
        1: "aorta",
        2: "gallbladder",
        3: "left kidney",
        4: "right kidney",
        5: "liver",
        6: "pancreas",
        7: "spleen",
        8: "stomach",
    },
    # Zhang and Liu, "SAMed" (2023), preprocess/README.md of its repository.
    "samed8": {
        1: "spleen",
        2: "right kidney",
        3: "left kidney",
        4: "gallbladder",
        5: "liver",
        6: "stomach",
        7: "aorta",
        8: "pancreas",
    },
}
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)

# Sizes that tell the conventions apart beside the liver's, whose id is 5 in both forms of eight organs. Any one may be
# the other way round in a patient: a contracted stomach, a small spleen.
_USUALLY_LARGER = (
    ("left kidney", "gallbladder"),
    ("right kidney", "gallbladder"),
    ("spleen", "aorta"),
    ("spleen", "pancreas"),
    ("stomach", "pancreas"),
)
# One unusual patient breaks one or two of these sizes; another convention breaks more.
_CLEARLY_BETTER = 2

StoredAxes = Literal["PL", "PR", "AL", "AR", "LP", "LA", "RP", "RA"]
"""Where the rows and the columns of a stored slice run: towards the patient's front (A), back (P), left or right."""
STORED_AXES: tuple[StoredAxes, ...] = get_args(StoredAxes)

_FRONT = ("liver", "stomach", "pancreas")
_BACK = ("left kidney", "right kidney", "aorta")
_KIDNEYS = ("left kidney", "right kidney")
# Each pair lies on the patient's right and on the left.
_RIGHT_AND_LEFT = (("liver", "spleen"), ("right kidney", "left kidney"), ("liver", "stomach"))


def lookup_table(stored: Convention, wanted: Convention) -> npt.NDArray[np.uint8]:
    """Make the table from one convention's ids to another's; organs that the other lacks become background.

    Args:
        stored: The convention of the files.
        wanted: The convention of the result.

    Returns:
        (256,): `table[label]` is a new array. (Replacing ids one after another in place would merge organs, for an
        id is another organ's in the other convention.)

    Raises:
        ValueError: `wanted` has organs that are not outlined in `stored`: they would look absent.
    """
    ids = {name: label_id for label_id, name in LABEL_NAMES[wanted].items()}
    unknown = sorted(ids.keys() - set(LABEL_NAMES[stored].values()))
    if unknown:
        raise ValueError(f"organs: {wanted} has {', '.join(unknown)}, which {stored} does not outline")
    table = np.full(256, BACKGROUND, np.uint8)
    for label_id, name in LABEL_NAMES[stored].items():
        table[label_id] = ids.get(name, BACKGROUND)
    return table


def count_voxels(label: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Count each id, shape (256,)."""
    return np.bincount(label.ravel(), minlength=256)


def convention_fault(counts: npt.NDArray[np.int64], stored: Convention) -> str | None:
    """Judge from the organs' sizes whether a volume is labelled in the convention that is said to be stored.

    The liver must be the largest organ, and no other convention may explain the sizes clearly better (the liver has
    one id in transunet8 and samed8). It can be wrong for a scan that shows the liver in part only, and for a liver
    that was resected or is smaller than a very large spleen.

    Args:
        counts: Voxels of each id, (256,).
        stored: The convention to judge.

    Returns:
        What is wrong, with the conventions to try, or None.
    """
    sizes = _sizes(counts, stored)
    if not sizes:
        return None
    own = _broken_rules(counts, stored)
    if own is None:
        own = len(LABEL_NAMES[stored]) + len(_USUALLY_LARGER)  # it holds ids that the convention lacks: worse than any
    others = {c: count for c in CONVENTIONS if c != stored and (count := _broken_rules(counts, c)) is not None}
    best = min(others.values(), default=own)
    better = [c for c, count in others.items() if count == best] if own - best >= _CLEARLY_BETTER else []
    largest = max(sizes, key=lambda name: sizes[name])
    if largest == "liver" and not better:
        return None
    if "liver" not in sizes and not better:
        return None  # the scan ends below the liver
    what = f"read as {stored}, the largest organ is the {largest}" + (
        ", and the sizes of the others are unusual" if largest == "liver" else ", not the liver"
    )
    return f"{what}; try labels={' or labels='.join(better or [c for c in CONVENTIONS if c != stored])}"


def _sizes(counts: npt.NDArray[np.int64], convention: Convention) -> dict[str, int]:
    return {name: int(counts[i]) for i, name in LABEL_NAMES[convention].items() if counts[i]}


def _broken_rules(counts: npt.NDArray[np.int64], convention: Convention) -> int | None:
    """Count the size rules that a volume breaks; None when it has ids that the convention lacks."""
    names = LABEL_NAMES[convention]
    if any(label_id not in names for label_id in np.flatnonzero(counts).tolist() if label_id != BACKGROUND):
        return None
    sizes = _sizes(counts, convention)
    liver = sizes.get("liver", 0)
    broken = sum(size > liver for size in sizes.values())
    for larger, smaller in _USUALLY_LARGER:
        if larger in sizes and smaller in sizes:
            broken += sizes[larger] < sizes[smaller]
    return broken


def turn_to_display(array: npt.NDArray[np.generic], axes: StoredAxes) -> npt.NDArray[np.generic]:
    """Turn stored slices so that rows run to the back and columns to the patient's left; a view.

    Args:
        array: (..., H, W).
        axes: Where its rows and columns run.

    Returns:
        (..., H, W), or (..., W, H) where the two are exchanged.
    """
    if axes[0] in "LR":
        array, axes = np.swapaxes(array, -1, -2), f"{axes[1]}{axes[0]}"  # type: ignore[assignment]
    rows = slice(None, None, 1 if axes[0] == "P" else -1)
    columns = slice(None, None, 1 if axes[1] == "L" else -1)
    return array[..., rows, columns]


def axes_fault(label: npt.NDArray[np.uint8], convention: Convention, axes: StoredAxes) -> str | None:
    """Judge from where the organs lie whether a volume in display orientation was turned rightly.

    Args:
        label: (D, H, W) as turned for display.
        convention: Of its ids.
        axes: As which it was turned, for the message.

    Returns:
        What is wrong, with the setting to try, or None; None also when too few organs are there to tell.
    """
    if _places_broken(label, convention) in (None, 0):
        return None
    stored = _turn_back(label, axes)
    good = [other for other in STORED_AXES if _places_broken(turn_to_display(stored, other), convention) == 0]
    if not good:
        return None  # the places contradict each other however it is turned: a question of the labels, not of the axes
    return (
        f"read with stored_axes={axes}, the organs lie on the wrong sides (the liver is not on the left of the picture "
        f"or the kidneys are not behind it); try stored_axes={' or stored_axes='.join(good)}"
    )


def _turn_back(label: npt.NDArray[np.uint8], axes: StoredAxes) -> npt.NDArray[np.generic]:
    if axes[0] in "PA":
        return turn_to_display(label, axes)  # a flip is its own inverse
    rows, columns = (1 if axes[1] == "P" else -1), (1 if axes[0] == "L" else -1)
    return np.swapaxes(label[..., ::rows, ::columns], -1, -2)


def _places_broken(label: npt.NDArray[np.generic], convention: Convention) -> int | None:
    """Count the rules of place that are broken; None unless both directions can be judged."""
    places: dict[str, tuple[float, float]] = {}
    for label_id, name in LABEL_NAMES[convention].items():
        found = label == label_id
        total = int(found.sum())
        if total:
            rows, columns = found.sum(axis=(0, 2)), found.sum(axis=(0, 1))
            places[name] = (
                float(rows @ np.arange(len(rows))) / total,
                float(columns @ np.arange(len(columns))) / total,
            )
    sideways = [places[r][1] < places[left][1] for r, left in _RIGHT_AND_LEFT if r in places and left in places]
    depth = [places[f][0] < places[b][0] for f in _FRONT for b in _BACK if f in places and b in places]
    if not sideways or not depth:
        return None
    # The majority decides each direction: single organs lie unusually, an axis does not.
    broken = int(2 * sum(sideways) < len(sideways)) + int(2 * sum(depth) < len(depth))
    if places.keys() >= set(_KIDNEYS):
        # Exchanged rows and columns: the kidneys lie beside each other, not one behind the other.
        left, right = (places[name] for name in _KIDNEYS)
        broken += int(abs(left[0] - right[0]) > abs(left[1] - right[1]))
    return broken
