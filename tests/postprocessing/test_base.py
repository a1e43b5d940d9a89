import inspect

import pytest
import torch

from medzeroseg import postprocessing
from medzeroseg.postprocessing import (
    Binariser,
    DenseCRF,
    FillHoles,
    KMeans,
    LargestComponents,
    Otsu,
    OtsuProbability,
    PercentileThreshold,
    PostProcessing,
    Step,
    Threshold,
)

STEPS = [
    DenseCRF(),
    Threshold(),
    PercentileThreshold(80),
    Otsu(),
    OtsuProbability(),
    KMeans(),
    KMeans(3),
    LargestComponents(2),
    FillHoles(),
    PostProcessing([DenseCRF(), Otsu(), FillHoles(), LargestComponents()]),
]


@pytest.fixture
def maps():
    torch.manual_seed(0)
    return torch.nn.functional.interpolate(torch.rand(3, 2, 5, 6), (20, 24), mode="bilinear")


def test_the_list_is_complete():
    public = [getattr(postprocessing, name) for name in postprocessing.__all__]
    concrete = {x for x in public if inspect.isclass(x) and issubclass(x, Step) and not inspect.isabstract(x)}
    assert concrete == {type(x) for x in STEPS}


@pytest.mark.parametrize("step", STEPS, ids=lambda x: type(x).__name__)
def test_every_step_keeps_the_protocol(step, maps):
    images = torch.rand(3, 20, 24)
    given = maps > 0.6 if step.takes_masks else maps
    before = given.clone()
    result = step(given, images, torch.randn(3, 4, 5, 6))
    assert result.shape == maps.shape
    assert result.dtype == (torch.bool if step.gives_masks else torch.float32)
    assert torch.equal(given, before)
    if not step.gives_masks:
        assert 0 <= result.min() <= result.max() <= 1
    for b in range(3):  # neither batch nor order nor other prompts matter
        alone = step(given[b : b + 1, 1:], images[b : b + 1])
        torch.testing.assert_close(alone[0, 0], result[b, 1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("step", STEPS, ids=lambda x: type(x).__name__)
def test_nothing_in_nothing_out(step):
    kind = torch.bool if step.takes_masks else torch.float32
    assert step(torch.zeros(2, 0, 4, 4, dtype=kind)).shape == (2, 0, 4, 4)
    assert not step(torch.zeros(1, 1, 6, 6, dtype=kind), torch.rand(1, 6, 6)).any()


@pytest.mark.parametrize("value", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("step", [Otsu(), KMeans(), KMeans(3, foreground=2), PercentileThreshold()])
def test_a_constant_map_gives_an_empty_mask(step, value):
    assert isinstance(step, Binariser)
    assert not step(torch.full((1, 2, 7, 5), value)).any()


def test_steps_run_in_their_order(maps):
    images = torch.rand(3, 20, 24)
    chain = PostProcessing([DenseCRF(), Otsu(), LargestComponents()])
    expected = LargestComponents()(Otsu()(DenseCRF()(maps, images)))
    assert torch.equal(chain(maps, images), expected)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "no step makes a mask"),
        ([DenseCRF()], "no step makes a mask"),
        ([LargestComponents()], "LargestComponents works on masks"),
        ([Otsu(), DenseCRF()], "DenseCRF works on maps"),
        ([Otsu(), Threshold()], "Threshold works on maps"),
    ],
)
def test_an_impossible_order_is_refused(steps, message):
    with pytest.raises(ValueError, match=message):
        PostProcessing(steps)


@pytest.mark.parametrize(
    ("step", "maps", "message"),
    [
        (Otsu(), torch.rand(4, 4), r"\(B, P, H, W\)"),
        (Otsu(), torch.full((1, 1, 4, 4), 1.5), r"\[0, 1\]"),
        (Otsu(), torch.full((1, 1, 4, 4), torch.nan), "finite"),
        (Otsu(), torch.zeros(1, 1, 4, 4, dtype=torch.bool), "float"),
        (FillHoles(), torch.rand(1, 1, 4, 4), "binariser"),
    ],
)
def test_wrong_input_is_named(step, maps, message):
    with pytest.raises(ValueError, match=message):
        step(maps)
