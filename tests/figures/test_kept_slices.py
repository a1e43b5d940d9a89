"""Which slice is kept, and that what is read is what was kept."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from medzeroseg.errors import ConfigurationError
from medzeroseg.figures.kept_slices import (
    SLICES_NAME,
    KeptSlices,
    largest_slice,
    merge_slices,
    pack_slices,
    read_slices,
    reference_masks,
    slice_dsc,
    unpack_slices,
    write_slices,
)
from tests.helpers.fake_runs import STRUCTURES, kept_slice


def test_the_slice_with_most_outlined_pixels_is_kept_and_the_first_of_equals() -> None:
    reference = torch.zeros(4, 6, 6, dtype=torch.uint8)
    reference[1, :2] = 1
    reference[2, 2:4] = 2
    reference[3] = 255  # unknown is not outlined
    assert largest_slice(reference, {"a": (1,), "both": (1, 2)}) == 1
    reference[2, 5, 5] = 2
    assert largest_slice(reference, {"a": (1,), "both": (1, 2)}) == 2
    assert largest_slice(reference * 0, {"a": (1,)}) == 0


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    one = kept_slice("a/ä", 2, ["m", "n"])
    two = kept_slice("b", 0, ["m"], spacing_mm=None)
    write_slices(KeptSlices(STRUCTURES, [one, two], 7), tmp_path)
    found = read_slices(tmp_path)
    assert found is not None
    assert (found.structures, found.cases) == (STRUCTURES, 7)
    for ours, theirs in zip((one, two), found.slices, strict=True):
        assert (ours.case_id, ours.index, ours.depth) == (theirs.case_id, theirs.index, theirs.depth)
        assert ours.spacing_mm == theirs.spacing_mm
        np.testing.assert_array_equal(ours.image, theirs.image)
        np.testing.assert_array_equal(ours.reference, theirs.reference)
        assert list(ours.masks) == list(theirs.masks)
        for method, mask in ours.masks.items():
            np.testing.assert_array_equal(mask, theirs.masks[method])
            np.testing.assert_array_equal(ours.maps[method], theirs.maps[method])


def test_a_shared_map_is_stored_once_and_a_case_is_small() -> None:
    generator = np.random.default_rng(0)
    one = kept_slice("a", 0, [f"m{n}" for n in range(10)])
    noise = generator.integers(256, size=(2, 64, 64)).astype(np.uint8)
    one.maps.update(dict.fromkeys(one.maps, noise))
    shared = len(pack_slices(KeptSlices(STRUCTURES, [one], 1)))
    assert noise.size < shared < 2 * noise.size
    assert all(
        np.array_equal(noise, found)
        for found in unpack_slices(pack_slices(KeptSlices(STRUCTURES, [one], 1))).slices[0].maps.values()
    )


def test_damage_is_named_and_nothing_is_unpickled(tmp_path: Path) -> None:
    assert read_slices(tmp_path) is None
    path = tmp_path / SLICES_NAME
    path.write_bytes(pack_slices(KeptSlices(STRUCTURES, [kept_slice("a", 0, ["m"])], 1))[:-40])
    with pytest.raises(ConfigurationError, match=SLICES_NAME):
        read_slices(tmp_path)
    with path.open("wb") as stream:
        np.savez(stream, head=np.array([{"version": 1}], dtype=object))
    with pytest.raises(ConfigurationError, match="allow_pickle"):
        read_slices(tmp_path)


def test_ranks_together_are_as_one_process() -> None:
    a, b, c = (kept_slice(name, 0, ["m"]) for name in "abc")
    parts = [KeptSlices(STRUCTURES, [c, a], 0), KeptSlices(STRUCTURES, [b, a], 0)]
    merged = merge_slices(parts, ["a", "b", "c", "not kept"])
    assert [one.case_id for one in merged.slices] == ["a", "b", "c"]
    assert merged.cases == 4


def test_dsc_of_a_slice_counts_known_pixels() -> None:
    mask, reference, known = (np.zeros((2, 4), np.bool_) for _ in range(3))
    mask[0], reference[:, 0], known[:, :3] = True, True, True
    assert slice_dsc(mask, reference, known) == 2 * 1 / (3 + 2)
    assert math.isnan(slice_dsc(mask & False, reference & False, known))


def test_structures_are_unions_of_labels() -> None:
    reference = np.array([[0, 1, 2, 255]], np.uint8)
    np.testing.assert_array_equal(
        reference_masks(reference, {"lungs": (1, 2), "infection": (2,)})[:, 0],
        [[False, True, True, False], [False, False, True, False]],
    )
