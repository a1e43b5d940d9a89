"""The sheet shows every pair, and tells right from wrong by colour and by words."""

import numpy as np
import pytest
import torch

from medzeroseg.callbacks import PairSheet
from medzeroseg.callbacks.pair_sheet import draw_pairs

RIGHT, WRONG = (0, 114, 178), (213, 94, 0)


def _pixels(sheet: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((sheet == np.array(colour)).all(axis=2).sum())


def test_right_and_wrong_answers_have_their_frames() -> None:
    images = torch.rand(3, 3, 16, 16)
    right = np.asarray(draw_pairs(images, ["a", "b", "c"], ["a", "b", "c"], columns=4))
    assert _pixels(right, RIGHT) > 0
    assert _pixels(right, WRONG) == 0
    mixed = np.asarray(draw_pairs(images, ["a", "b", "c"], ["a", "c", "c"], columns=4))
    assert _pixels(mixed, RIGHT) == pytest.approx(_pixels(right, RIGHT) * 2 / 3, rel=0.01)
    assert _pixels(mixed, WRONG) == pytest.approx(_pixels(right, RIGHT) / 3, rel=0.01)
    below = np.s_[192:, 192:384]  # the second pair's words: its own text, and the one retrieved instead
    assert (mixed[below] < 255).sum() > (right[below] < 255).sum()


def test_grid_has_room_for_all_and_images_keep_their_content() -> None:
    image = torch.zeros(1, 3, 8, 8)
    image[..., :4] = 5.0  # normalised values in any range
    sheet = np.asarray(draw_pairs(image.expand(5, -1, -1, -1), ["x"] * 5, ["x"] * 5, columns=2))
    cell = sheet.shape[1] // 2
    assert sheet.shape[0] > 3 * cell
    assert sheet[cell // 2, cell // 4].min() > 250
    assert sheet[cell // 2, 3 * cell // 4].max() < 5


@pytest.mark.parametrize("arguments", [{"pairs": 0}, {"columns": 0}])
def test_numbers_below_one_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        PairSheet(**arguments)
