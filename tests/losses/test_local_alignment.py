"""The local loss against plain loops, and over ranks against one process."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from medzeroseg import distributed
from medzeroseg.losses import LocalAlignmentLoss
from tests.helpers.process_pool import run_in_processes

PHRASES_OF = [3, 1, 2, 4, 2, 1]


def _batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(6, 5, 2, 3, generator=generator, dtype=dtype)
    captions = torch.repeat_interleave(torch.arange(6), torch.tensor(PHRASES_OF))
    captions = captions[torch.randperm(len(captions), generator=generator)]  # in no order
    phrases = F.normalize(torch.randn(len(captions), 5, generator=generator, dtype=dtype), dim=1)
    return patches, phrases, captions, torch.tensor([0, 1, 2, 0, 3, 4])


def _by_hand(patches: Tensor, phrases: Tensor, captions: Tensor, ids: list[int], sharpness: float) -> float:
    scale, count = 5.0, len(patches)
    score = [[0.0] * count for _ in range(count)]
    for caption in range(count):
        for image in range(count):
            matches = []
            for phrase in phrases[captions == caption]:
                places = patches[image].flatten(1).T
                found = [math.exp(sharpness * float(place @ phrase)) for place in places]
                matches.append(math.log(sum(found) / len(found)) / sharpness)
            score[caption][image] = sum(matches) / len(matches)
    total = 0.0
    for anchor in range(count):
        for row in ([score[anchor][m] for m in range(count)], [score[m][anchor] for m in range(count)]):
            positive = math.exp(scale * row[anchor])
            negatives = sum(math.exp(scale * row[m]) for m in range(count) if ids[m] != ids[anchor])
            total -= math.log(positive / (positive + negatives))
    return total / count


@pytest.mark.parametrize("sharpness", [0.1, 2.0, 20.0])
@pytest.mark.parametrize("with_ids", [False, True])
def test_value_is_that_of_plain_loops(sharpness: float, with_ids: bool) -> None:
    patches, phrases, captions, ids = _batch()
    given = ids if with_ids else None
    expected = _by_hand(patches, phrases, captions, ids.tolist() if with_ids else [*range(6)], sharpness)
    assert LocalAlignmentLoss(sharpness)(patches, phrases, captions, given).item() == pytest.approx(expected, rel=1e-5)
    halved = LocalAlignmentLoss(sharpness, weight=0.5)(patches, phrases, captions, given)
    assert halved.item() == pytest.approx(expected / 2, rel=1e-5)


def test_it_teaches_a_phrase_where_it_belongs() -> None:
    """Each image shows its organ at a random place; nothing says where. The map must light up there."""
    generator = torch.Generator().manual_seed(0)
    organs = torch.randint(0, 8, (64,), generator=generator)
    places = torch.randint(0, 9, (64,), generator=generator)
    looks = torch.randn(8, 16, generator=generator)
    images = 0.3 * torch.randn(64, 16, 9, generator=generator)
    images[torch.arange(64), :, places] += looks[organs]
    torch.manual_seed(0)
    tower, words, loss = nn.Linear(16, 8), nn.Embedding(8, 8), LocalAlignmentLoss()
    optimizer = torch.optim.Adam([*tower.parameters(), *words.parameters(), *loss.parameters()], lr=0.03)

    def patches() -> Tensor:
        return tower(images.transpose(1, 2)).transpose(1, 2).unflatten(2, (3, 3))

    for _ in range(60):
        value = loss(patches(), F.normalize(words(organs), dim=1), torch.arange(64), organs)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    similarity = (patches().flatten(2) * F.normalize(words(organs), dim=1)[:, :, None]).sum(1)
    assert (similarity.argmax(1) == places).float().mean() > 0.9


def test_autocast_and_extremes_stay_finite() -> None:
    patches, phrases, captions, _ = _batch()
    loss = LocalAlignmentLoss(200.0, init_logit_scale=99.9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(patches.bfloat16().requires_grad_(), phrases.bfloat16(), captions)
    assert value.dtype == torch.float32
    value.backward()
    assert value.isfinite()
    assert loss.scale_logit.grad.isfinite()
    # all pairs say the same: nothing to tell apart, nothing to learn, no not-a-number
    same = patches.clone().requires_grad_()
    value = loss(same, phrases, captions, torch.zeros(6, dtype=torch.long))
    value.backward()
    assert value.item() == 0
    assert (same.grad == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patches": torch.randn(6, 5, 4)}, "patches must be"),
        ({"patches": torch.randn(6, 7, 2, 3)}, "patches must be"),
        ({"captions": torch.zeros(13, dtype=torch.long)}, "each of the 6 pairs"),
        ({"captions": torch.zeros(3, dtype=torch.long)}, "one entry a phrase"),
    ],
)
def test_shapes_that_do_not_fit_are_named(change: dict[str, Tensor], message: str) -> None:
    patches, phrases, captions, _ = _batch()
    with pytest.raises(ValueError, match=message):
        LocalAlignmentLoss()(**{"patches": patches, "phrases": phrases, "captions": captions} | change)


def test_one_pair_is_refused() -> None:
    patches, phrases, _, _ = _batch()
    with pytest.raises(ValueError, match="at least 2 pairs"):
        LocalAlignmentLoss()(patches[:1], phrases[:1], torch.zeros(1, dtype=torch.long))


@pytest.mark.parametrize(
    ("argument", "value"),
    [("sharpness", 0.0), ("sharpness", math.nan), ("weight", math.inf), ("init_logit_scale", 100.0)],
)
def test_bad_arguments_are_named(argument: str, value: float) -> None:
    with pytest.raises(ValueError, match=argument):
        LocalAlignmentLoss(**{argument: value})


class _Step(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text, self.loss = nn.Conv2d(5, 4, 1), nn.Linear(5, 4), LocalAlignmentLoss()

    def forward(self, patches: Tensor, phrases: Tensor, captions: Tensor, ids: Tensor) -> Tensor:
        return self.loss(self.image(patches), F.normalize(self.text(phrases), dim=1), captions, ids)


def _gradients(sizes: tuple[int, ...]) -> tuple[Tensor, list[Tensor]]:
    patches, phrases, captions, ids = _batch()
    step: nn.Module = _Step()
    rank = distributed.rank()
    start = sum(sizes[:rank])
    own = slice(start, start + sizes[rank])
    mine = (captions >= own.start) & (captions < own.stop)
    if distributed.is_distributed():
        step = DistributedDataParallel(step)
    value = step(patches[own], phrases[mine], captions[mine] - start, ids[own])
    value.backward()
    return value.detach(), copy.deepcopy([parameter.grad for parameter in step.parameters()])


@pytest.mark.parametrize("sizes", [(3, 3), (4, 2), (1, 3, 2)])
def test_value_and_gradients_equal_one_process(sizes: tuple[int, ...]) -> None:
    value, gradients = _gradients((6,))
    ranks = run_in_processes(_gradients, len(sizes), sizes)
    assert_close(torch.stack([of_rank for of_rank, _ in ranks]).mean(), value, rtol=1e-5, atol=1e-6)
    for _, found in ranks:
        for a, b in zip(found, gradients, strict=True):
            assert (a - b).norm() <= 1e-5 * b.norm() + 1e-7
