from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from medzeroseg.colours import COLOURS
from medzeroseg.imaging import Geometry, Volume
from medzeroseg.inference.drawing import draw_overlay, measured
from medzeroseg.inference.running import Run
from tests.helpers.fake_inference import blobs

Prepare = Callable[..., Run]


def colours(picture: object) -> set[tuple[int, ...]]:
    return {tuple(int(value) for value in pixel) for pixel in np.unique(np.asarray(picture).reshape(-1, 3), axis=0)}


def test_the_slice_with_the_largest_mask_is_shown_for_each_label(prepared: Prepare):
    volume = Volume(blobs(5, 20, 24), Geometry(np.diag([2.0, -1.0, -1.0, 1.0])[[2, 1, 0, 3]]))
    result = prepared("liver", "spleen").segmenter(volume, Path("scan.nii"))
    labels = np.zeros((5, 20, 24), np.uint8)
    labels[1, 2:9, 2:9], labels[3, 10:18, 10:18] = 1, 2
    shown = [
        replace(label, found=True, largest_slice=number) for label, number in zip(result.labels, (1, 3), strict=True)
    ]
    picture = draw_overlay(replace(result, view_labels=labels, labels=tuple(shown)))
    assert {COLOURS[0], COLOURS[1]} <= colours(picture)
    one = draw_overlay(replace(result, view_labels=labels, labels=(shown[0], replace(shown[1], largest_slice=1))))
    assert one.width < picture.width


def test_pixels_that_are_not_square_are_drawn_in_their_proportions(prepared: Prepare):
    volume = Volume(blobs(1, 20, 20), Geometry(np.diag([1.0, -4.0, -1.0, 1.0])[[2, 1, 0, 3]]))
    result = prepared("liver", plane="stored").segmenter(volume, Path("scan.nii"))
    bare = replace(result, view_labels=np.zeros_like(result.view_labels))
    assert draw_overlay(bare).height > 380


def test_sizes_are_told_in_the_best_known_unit(prepared: Prepare):
    label = prepared("liver").segmenter(Volume(blobs(1, 16, 16)), Path("a.png")).labels[0]
    assert measured(replace(label, voxels=1234)) == "1,234 pixels"
    assert measured(replace(label, area_mm2=1234.4)) == "1,234 mm²"
    assert measured(replace(label, volume_ml=12.34)) == "12.3 ml"
