"""The loss on windows against plain loops, over ranks against one process, and on a task whose truth is known."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from medzeroseg import distributed
from medzeroseg.losses import PresenceLoss
from medzeroseg.losses.presence import ABSENT, SHOWN, UNSAID
from tests.helpers.process_pool import run_in_processes


def _case() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(5, 6, 2, 3, generator=generator)
    phrases = F.normalize(torch.randn(4, 6, generator=generator), dim=1)
    targets = torch.randint(-1, 2, (5, 4), generator=generator, dtype=torch.int8)
    return patches, phrases, targets


@pytest.mark.parametrize("sharpness", [0.1, 3.0, 20.0])
def test_value_is_that_of_plain_loops(sharpness: float) -> None:
    patches, phrases, targets = _case()
    total, count = 0.0, 0
    for image, said in zip(patches, targets, strict=True):
        for phrase, target in zip(phrases, said.tolist(), strict=True):
            if target == UNSAID:
                continue
            found = [math.exp(sharpness * float(place @ phrase)) for place in image.flatten(1).T]
            logit = 2.0 * math.log(sum(found) / len(found)) / sharpness
            probability = 1 / (1 + math.exp(-logit))
            total -= math.log(probability if target == SHOWN else 1 - probability)
            count += 1
    assert {SHOWN, ABSENT, UNSAID} == set(targets.flatten().tolist())
    loss = PresenceLoss(sharpness, scale=2.0, weight=0.5)
    assert loss(patches, phrases, targets).item() == pytest.approx(total / count / 2, rel=1e-5)


def test_what_is_not_said_changes_nothing() -> None:
    patches, phrases, targets = _case()
    targets[2] = UNSAID
    moved = patches.requires_grad_()
    PresenceLoss()(moved, phrases, targets).backward()
    assert moved.grad[2].abs().max() == 0
    assert moved.grad[0].abs().max() > 0
    silent = PresenceLoss()(patches, phrases, torch.full_like(targets, UNSAID))
    assert silent.item() == 0


def test_it_teaches_names_where_they_belong() -> None:
    """Each picture shows two of eight organs at random places; nothing says where. The maps must point there."""
    generator = torch.Generator().manual_seed(0)
    organs = torch.rand(96, 8, generator=generator).topk(2, dim=1).indices
    places = torch.rand(96, 9, generator=generator).topk(2, dim=1).indices
    looks = torch.randn(8, 16, generator=generator)
    pictures = 0.3 * torch.randn(96, 9, 16, generator=generator)
    for i in range(2):
        pictures[torch.arange(96), places[:, i]] += looks[organs[:, i]]
    targets = torch.zeros(96, 8, dtype=torch.int8).scatter_(1, organs, SHOWN)
    torch.manual_seed(0)
    tower, words, loss = nn.Linear(16, 8), nn.Embedding(8, 8), PresenceLoss()
    optimizer = torch.optim.Adam([*tower.parameters(), *words.parameters()], lr=0.03)
    for _ in range(120):
        patches = tower(pictures).transpose(1, 2).unflatten(2, (3, 3))
        optimizer.zero_grad()
        loss(patches, F.normalize(words.weight, dim=1), targets).backward()
        optimizer.step()
    maps = tower(pictures) @ F.normalize(words.weight, dim=1).T  # (96, 9, 8)
    pointed = maps.argmax(dim=1).gather(1, organs)
    assert (pointed == places).float().mean() > 0.9


def test_autocast_and_extremes_stay_finite() -> None:
    patches, phrases, targets = _case()
    loss = PresenceLoss(200.0, scale=100.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        moved = (1e3 * patches).bfloat16().requires_grad_()
        value = loss(moved, phrases.bfloat16(), targets)
    assert value.dtype == torch.float32
    value.backward()
    assert value.isfinite()
    assert moved.grad.isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patches": torch.randn(5, 6, 4)}, "patches must be"),
        ({"phrases": torch.randn(4, 7)}, "patches must be"),
        ({"targets": torch.zeros(5, 3)}, r"targets must be \(5, 4\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(change: dict[str, Tensor], message: str) -> None:
    patches, phrases, targets = _case()
    with pytest.raises(ValueError, match=message):
        PresenceLoss()(**{"patches": patches, "phrases": phrases, "targets": targets} | change)


@pytest.mark.parametrize(("argument", "value"), [("sharpness", 0.0), ("scale", -1.0), ("weight", math.inf)])
def test_arguments_out_of_range_are_named(argument: str, value: float) -> None:
    with pytest.raises(ValueError, match=argument):
        PresenceLoss(**{argument: value})


class _Step(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text, self.loss = nn.Conv2d(6, 4, 1), nn.Linear(6, 4), PresenceLoss()

    def forward(self, patches: Tensor, phrases: Tensor, targets: Tensor) -> Tensor:
        return self.loss(self.image(patches), F.normalize(self.text(phrases), dim=1), targets)


def _gradients(sizes: tuple[int, ...]) -> tuple[Tensor, list[Tensor]]:
    patches, phrases, targets = _case()
    step: nn.Module = _Step()
    start = sum(sizes[: distributed.rank()])
    own = slice(start, start + sizes[distributed.rank()])
    if distributed.is_distributed():
        step = DistributedDataParallel(step)
    value = step(patches[own], phrases, targets[own])
    value.backward()
    return value.detach(), copy.deepcopy([parameter.grad for parameter in step.parameters()])


def test_two_ranks_give_the_gradient_of_one_process() -> None:
    """The ranks hold different numbers of windows, and of them different numbers are said."""
    value, gradients = _gradients((5,))
    parts = run_in_processes(_gradients, 2, (2, 3))
    torch.testing.assert_close(sum(part for part, _ in parts) / 2, value)
    for _, found in parts:
        torch.testing.assert_close(found, gradients, rtol=1e-5, atol=1e-7)
