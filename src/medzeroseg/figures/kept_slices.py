"""One slice of each test case, as a test saw and segmented it: what figures are drawn from."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medzeroseg.errors import ConfigurationError
from medzeroseg.files import write_atomically

SLICES_NAME = "test_slices.npz"
VERSION = 1
UNKNOWN = 255
"""Label id of pixels that nobody has outlined; they count neither way."""

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class KeptSlice:
    """One slice of a case.

    Attributes:
        case_id: The case.
        index: Place of the slice in the case, from 0.
        depth: Slices of the case.
        spacing_mm: (between rows, between columns), or None where the source has lost it.
        image: (H, W) grey levels, windowed.
        reference: (H, W) label ids.
        masks: Method -> (P, H, W), of the P structures.
        maps: Method -> (P, h, w) saliency on its own grid, 0..255; of zero-shot methods alone.
    """

    case_id: str
    index: int
    depth: int
    spacing_mm: tuple[float, float] | None
    image: Bytes
    reference: Bytes
    masks: dict[str, Mask] = field(default_factory=dict)
    maps: dict[str, Bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class KeptSlices:
    """The slices of a run.

    Attributes:
        structures: Structure -> the label ids whose union it is.
        slices: One for each case, in the test split's order.
        cases: How many cases were tested; more than there are slices where a limit was set.
    """

    structures: dict[str, tuple[int, ...]]
    slices: list[KeptSlice]
    cases: int

    @property
    def by_case(self) -> dict[str, KeptSlice]:
        """Case -> its slice."""
        return {one.case_id: one for one in self.slices}


def largest_slice(reference: Tensor, structures: Mapping[str, Sequence[int]]) -> int:
    """The slice whose reference outlines most pixels; of equals the first, so that every run keeps the same.

    Args:
        reference: (D, H, W) label ids.
        structures: Structure -> the label ids whose union it is.
    """
    ids = torch.tensor(sorted({label for labels in structures.values() for label in labels}))
    areas = torch.isin(reference, ids.to(reference)).flatten(1).sum(dim=1).tolist()
    return areas.index(max(areas))


def reference_masks(reference: Bytes, structures: Mapping[str, Sequence[int]]) -> Mask:
    """(P, H, W) masks of the structures."""
    return np.stack([np.isin(reference, list(labels)) for labels in structures.values()])


def slice_dsc(mask: Mask, reference: Mask, known: Mask) -> float:
    """Dice similarity coefficient of two (H, W) masks over the known pixels; NaN where both are empty."""
    both = int((mask & reference & known).sum())
    total = int((mask & known).sum()) + int((reference & known).sum())
    return 2 * both / total if total else float("nan")


def pack_slices(kept: KeptSlices) -> bytes:
    """As a compressed `.npz` of numbers and text, without pickle.

    Masks are packed to bits, and a map that several methods share is stored once. Size: of an H x W slice with M
    methods and P structures at most H W (2 + M P / 8) bytes and the maps, before compression: 0.4 MB of 256 x 256
    pixels with 15 methods and 2 structures.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    entries = []
    for n, one in enumerate(kept.slices):
        places: dict[bytes, int] = {}
        map_of = {}
        for method, saliency in one.maps.items():
            content = repr(saliency.shape).encode() + saliency.tobytes()
            if content not in places:
                places[content] = len(places)
                arrays[f"{n}/map{places[content]}"] = saliency
            map_of[method] = places[content]
        arrays |= {f"{n}/image": one.image, f"{n}/reference": one.reference}
        arrays |= {f"{n}/mask/{method}": np.packbits(mask) for method, mask in one.masks.items()}
        spacing = None if one.spacing_mm is None else list(one.spacing_mm)
        entry = {"case_id": one.case_id, "index": one.index, "depth": one.depth, "spacing_mm": spacing}
        entries.append(entry | {"methods": list(one.masks), "map_of": map_of})
    structures = {name: list(labels) for name, labels in kept.structures.items()}
    head = {"version": VERSION, "structures": structures, "cases": kept.cases, "slices": entries}
    arrays["head"] = np.frombuffer(json.dumps(head).encode("utf-8"), np.uint8)
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def unpack_slices(content: bytes) -> KeptSlices:
    """What `pack_slices` packed.

    Raises:
        ValueError: It is damaged, or of another version.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            head = json.loads(arrays["head"].tobytes())
            if head["version"] != VERSION:
                raise ValueError(f"version {head['version']} instead of {VERSION}")
            structures = {name: tuple(labels) for name, labels in head["structures"].items()}
            slices = [_unpack(n, entry, len(structures), arrays) for n, entry in enumerate(head["slices"])]
            return KeptSlices(structures, slices, head["cases"])
    except (zipfile.BadZipFile, KeyError, TypeError, OSError, EOFError) as error:
        raise ValueError(f"damaged ({error!r})") from error


def _unpack(n: int, entry: dict[str, Any], structures: int, arrays: Mapping[str, npt.NDArray[Any]]) -> KeptSlice:
    image = arrays[f"{n}/image"]
    shape = (structures, *image.shape)
    size = int(np.prod(shape))
    return KeptSlice(
        case_id=entry["case_id"],
        index=entry["index"],
        depth=entry["depth"],
        spacing_mm=None if entry["spacing_mm"] is None else tuple(entry["spacing_mm"]),
        image=image,
        reference=arrays[f"{n}/reference"],
        masks={
            method: np.unpackbits(arrays[f"{n}/mask/{method}"], count=size).reshape(shape).astype(np.bool_)
            for method in entry["methods"]
        },
        maps={method: arrays[f"{n}/map{place}"] for method, place in entry["map_of"].items()},
    )


def merge_slices(parts: Sequence[KeptSlices], order: Sequence[str]) -> KeptSlices:
    """What several ranks kept, as one process would have: in the split's order, a case that came twice once.

    Args:
        parts: Of each rank.
        order: The split's cases.
    """
    found = {case_id: one for part in reversed(parts) for case_id, one in part.by_case.items()}
    return KeptSlices(parts[0].structures, [found[case] for case in order if case in found], len(order))


def write_slices(kept: KeptSlices, folder: Path) -> None:
    """Write them into a run's folder, atomically.

    Raises:
        OutputError: It cannot be written to.
    """
    write_atomically(folder / SLICES_NAME, pack_slices(kept))


def read_slices(folder: Path) -> KeptSlices | None:
    """What a run kept; None where it kept nothing, as runs from before this file existed.

    Raises:
        ConfigurationError: The file is damaged.
    """
    path = folder / SLICES_NAME
    if not path.is_file():
        return None
    try:
        return unpack_slices(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}. Test that run again, or remove the file.") from error
