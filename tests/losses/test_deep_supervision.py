"""Coarser outputs count half of the one before."""

import pytest
import torch
from torch import Tensor

from medzeroseg.losses.deep_supervision import deep_supervision


def first_logit(logits: Tensor, classes: Tensor) -> Tensor:
    return logits[0, 0, 0, 0] + classes.sum()


def test_it_is_the_weighted_mean_over_depths() -> None:
    outputs = torch.tensor([7.0, 14.0, 28.0]).reshape(1, 3, 1, 1, 1)
    classes = torch.zeros(1, 1, 1, dtype=torch.int64)
    expected = (7 + 14 / 2 + 28 / 4) / (1 + 1 / 2 + 1 / 4)
    assert float(deep_supervision(first_logit, outputs, classes)) == pytest.approx(expected)


def test_of_one_output_it_is_the_loss() -> None:
    outputs, classes = torch.rand(2, 3, 4, 4), torch.ones(2, 4, 4, dtype=torch.int64)
    assert torch.equal(deep_supervision(first_logit, outputs, classes), first_logit(outputs, classes))
