import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medzeroseg.postprocessing import INSIDE, NO_POINT, OUTSIDE, boxes_from_masks, points_from_masks


def random_masks(seed):
    rng = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(rng.normal(size=(2, 2, 15, 18)), (0, 0, 2, 2))
    masks = torch.from_numpy(fields > 0.05)
    masks[1, 1] = False
    return masks


@given(seed=st.integers(0, 10_000), margin=st.integers(0, 4))
@settings(max_examples=40, deadline=None)
def test_boxes_hold_the_mask_and_touch_it(seed, margin):
    masks = random_masks(seed)
    boxes = boxes_from_masks(masks, margin)
    for mask, box in zip(masks.flatten(0, 1).numpy(), boxes.flatten(0, 1).tolist(), strict=True):
        rows, columns = np.nonzero(mask)
        if len(rows) == 0:
            assert box == [-1] * 4
            continue
        expected = [columns.min() - margin, rows.min() - margin, columns.max() + margin, rows.max() + margin]
        assert box == np.clip(expected, 0, [17, 14, 17, 14]).tolist()


@given(seed=st.integers(0, 10_000), positives=st.integers(0, 3), negatives=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_points_lie_where_their_labels_say(seed, positives, negatives):
    if positives + negatives == 0:
        return
    masks = random_masks(seed)
    points, labels = points_from_masks(masks, positives, negatives)
    assert points.shape == (2, 2, positives + negatives, 2)
    again, _ = points_from_masks(masks, positives, negatives)
    assert torch.equal(points, again)
    for b, p in np.ndindex(2, 2):
        alone, _ = points_from_masks(masks[b : b + 1, p : p + 1], positives, negatives)
        assert torch.equal(alone[0, 0], points[b, p])
        known = [tuple(x) for x, kind in zip(points[b, p].tolist(), labels[b, p].tolist(), strict=True) if kind >= 0]
        assert len(set(known)) == len(known)
        for i, ((x, y), kind) in enumerate(zip(points[b, p].tolist(), labels[b, p].tolist(), strict=True)):
            if kind == NO_POINT:
                assert (x, y) == (-1, -1)
            else:
                assert kind == (INSIDE if i < positives else OUTSIDE)
                assert bool(masks[b, p, y, x]) == (kind == INSIDE)


def test_the_first_point_is_the_deepest():
    masks = random_masks(7)
    points, _ = points_from_masks(masks)
    for mask, (x, y) in zip(masks.flatten(0, 1).numpy(), points.flatten(0, 2).tolist(), strict=True):
        if mask.any():
            depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
            assert depth[y, x] == depth.max()


def test_points_spread_out():
    mask = torch.zeros(1, 1, 21, 61, dtype=torch.bool)
    mask[0, 0, 5:16, 5:56] = True
    points, labels = points_from_masks(mask, positives=3, negatives=2)
    inside = points[0, 0, :3].float()
    assert torch.cdist(inside, inside)[~torch.eye(3, dtype=torch.bool)].min() > 5
    assert labels.tolist() == [[[1, 1, 1, 0, 0]]]


def test_an_empty_and_a_full_mask():
    masks = torch.zeros(1, 2, 6, 6, dtype=torch.bool)
    masks[0, 1] = True
    points, labels = points_from_masks(masks, 1, 1)
    assert labels.tolist() == [[[NO_POINT, NO_POINT], [INSIDE, NO_POINT]]]
    assert points[0, 1, 0].tolist() == [2, 2]
    assert boxes_from_masks(masks).tolist() == [[[-1] * 4, [0, 0, 5, 5]]]


def test_more_points_than_pixels():
    masks = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    masks[0, 0, 1, 1:3] = True
    _, labels = points_from_masks(masks, positives=4)
    assert labels.tolist() == [[[1, 1, NO_POINT, NO_POINT]]]


def test_bad_arguments_are_named():
    masks = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="bool"):
        boxes_from_masks(masks.float())
    with pytest.raises(ValueError, match="margin_px"):
        boxes_from_masks(masks, -1)
    with pytest.raises(ValueError, match="positives"):
        points_from_masks(masks, 0, 0)
