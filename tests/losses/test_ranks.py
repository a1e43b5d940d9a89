"""Every loss over 2 and 3 ranks against one process on the concatenated batch."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from medzeroseg import distributed
from medzeroseg.losses import CEHNCLoss, ContrastiveLoss, DCLLoss, DHNNCELoss, HNNCELoss, InfoNCELoss
from tests.helpers.process_pool import WorkerError, run_in_processes

STEPS = 3
ADAPTIVE = {"lambda_update": "adaptive", "target_effective_fraction": 0.3, "adaptation_rate": 0.2}


class Towers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Linear(10, 6)
        self.text = nn.Linear(7, 6)
        self.log_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return (
            F.normalize(self.image(images), dim=1),
            F.normalize(self.text(texts), dim=1),
            self.log_scale.exp(),
        )


def family(tile_size) -> dict[str, ContrastiveLoss]:
    both = {"tile_size": tile_size, "duplicate_texts": "ignore"}
    return {
        "info_nce": InfoNCELoss(tile_size=tile_size),
        "info_nce_ignore": InfoNCELoss(**both),
        "dcl": DCLLoss(**both),
        "hn_nce": HNNCELoss(0.3, 0.6, **both),
        "hn_nce_detached": HNNCELoss(0.3, 0.6, alpha=0.5, detach_weights=True, tile_size=tile_size),
        "dhn_nce": DHNNCELoss(**both),
        "cehnc": CEHNCLoss(**ADAPTIVE, **both),
        "cehnc_keep": CEHNCLoss(0.5, 2.0, **ADAPTIVE, tile_size=tile_size),
        "cehnc_l2": CEHNCLoss(distance="l2", **ADAPTIVE, **both),
        "cehnc_schedule": CEHNCLoss(
            hard_fraction=0.3, hard_fraction_schedule="linear", schedule_steps=STEPS, **ADAPTIVE, **both
        ),
        "cehnc_count": CEHNCLoss(hard_count=3, **ADAPTIVE, **both),
    }


def train(tile_size, sizes: tuple[int, ...]) -> dict[str, list[tuple[Tensor, list[Tensor], list[Tensor]]]]:
    """Per loss and step: its value, the gradients, and its state and diagnostics after the step."""
    torch.manual_seed(0)
    total = sum(sizes)
    towers, data = Towers(), [(torch.randn(total, 10), torch.randn(total, 7)) for _ in range(STEPS)]
    ids = torch.randint(0, total, (total,))  # some captions twice
    record = {}
    for name, loss in family(tile_size).items():
        model: nn.Module = copy.deepcopy(towers)
        if distributed.is_distributed():
            model = DistributedDataParallel(model)
        record[name] = []
        for images, texts in data:
            own = [part.split(sizes)[distributed.rank()] for part in (images, texts, ids)]
            value = loss(*model(own[0], own[1]), own[2])
            model.zero_grad()
            value.backward()
            gradients = [p.grad.clone() for p in model.parameters()]
            with torch.no_grad():
                for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                    parameter.sub_(gradient, alpha=0.3)
            state = [*loss.state_dict().values(), *loss.diagnostics().values()]
            record[name].append((value.detach(), gradients, [s.clone() for s in state]))
    return record


@pytest.mark.parametrize("tile_size", [None, 2])
@pytest.mark.parametrize(
    "sizes", [(6, 6), (4, 4, 4), (7, 5), (5, 1, 6), (31, 33)]
)  # of 64, 3 are few enough to be sparse
def test_value_gradients_and_state_equal_one_process(sizes, tile_size):
    alone = train(None, (sum(sizes),))
    ranks = run_in_processes(train, len(sizes), tile_size, sizes)
    for name, steps in alone.items():
        for step, (value, gradients, state) in enumerate(steps):
            of_ranks = [rank[name][step] for rank in ranks]
            where = f"{name}, step {step}: "
            mean = torch.stack([r[0] for r in of_ranks]).mean()
            assert_close(mean, value, rtol=1e-5, atol=1e-6, msg=lambda m, w=where: w + m)
            for found_value, found, found_state in of_ranks:
                assert torch.isfinite(found_value)
                for a, b in zip(found, gradients, strict=True):
                    assert (a - b).norm() <= 1e-5 * b.norm() + 1e-7, where
                for a, b in zip(found_state, state, strict=True):
                    assert_close(a, b, rtol=1e-5, atol=1e-6, msg=lambda m, w=where: w + m)


def one_pair_each():
    """One pair a rank: no negatives at home, some abroad."""
    generator = torch.Generator().manual_seed(1)
    z, s = F.normalize(torch.randn(2, 2, 4, generator=generator), dim=2)
    return CEHNCLoss()(z[[distributed.rank()]], s[[distributed.rank()]], 5.0)


def test_one_pair_a_rank_has_the_other_ranks_pairs_as_negatives():
    generator = torch.Generator().manual_seed(1)
    z, s = F.normalize(torch.randn(2, 2, 4, generator=generator), dim=2)
    assert_close(torch.stack(run_in_processes(one_pair_each, 2)).mean(), CEHNCLoss()(z, s, 5.0))


def bad_ids():
    z = F.normalize(torch.randn(3, 4), dim=1)
    CEHNCLoss(duplicate_texts="ignore")(z, z, 5.0, torch.arange(2))


def test_bad_input_is_named_on_every_rank():
    with pytest.raises(WorkerError, match=r"(?s)rank 0.*text_ids must be \(3,\).*rank 1.*text_ids must be"):
        run_in_processes(bad_ids, 2)
