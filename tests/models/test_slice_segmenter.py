"""The network that speaks label ids: sizes, windows, flips, unions."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from medzeroseg.models.segmentation_networks import DynUNet, GreyTransform, NetworkBuilder, ResUNet
from medzeroseg.models.slice_segmenter import SliceSegmenter, random_windows


class PointwiseBuilder(NetworkBuilder):
    """Sees one pixel at a time: what windows or flips do must not show."""

    title = "pointwise"

    def __call__(self, classes: int) -> nn.Module:
        torch.manual_seed(0)
        return nn.Conv2d(1, classes, 1)

    @property
    def multiple_px(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("builder", "side"), [(ResUNet((4, 8, 16)), 12), (DynUNet((4, 8, 16), 1), 12), (DynUNet((4, 8, 16), 0), 8)]
)
def test_networks_keep_the_size_and_have_a_class_for_each_label(builder: NetworkBuilder, side: int) -> None:
    network = builder(5)
    assert side % builder.multiple_px == 0
    assert network.eval()(torch.zeros(2, 1, side, 2 * side)).shape == (2, 5, side, 2 * side)


def test_deep_supervision_gives_more_outputs_in_training_alone() -> None:
    network = DynUNet((4, 8, 16, 16), 2)(3)
    assert network(torch.zeros(2, 1, 16, 16)).shape == (2, 3, 3, 16, 16)
    assert network.eval()(torch.zeros(2, 1, 16, 16)).shape == (2, 3, 16, 16)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: ResUNet((8,)), "channels"),
        (lambda: ResUNet((8, 0)), "channels"),
        (lambda: ResUNet(residual_units=0), "residual_units"),
        (lambda: ResUNet(dropout=1.0), "dropout"),
        (lambda: DynUNet((8, 16, 32), 2), "deep_supervision"),
    ],
)
def test_bad_arguments_are_named(make: object, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        make()  # type: ignore[operator]


def test_pictures_become_grey_with_mean_0_and_deviation_1_whatever_their_exposure() -> None:
    grey = np.random.default_rng(0).integers(10, 200, (8, 6)).astype(np.uint8)
    bright = (grey.astype(int) + 40).astype(np.uint8)
    one, other = (GreyTransform()(Image.fromarray(values).convert("RGB")) for values in (grey, bright))
    assert one.shape == (1, 8, 6)
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(one.std(), torch.tensor(1.0))
    assert not GreyTransform()(Image.new("RGB", (4, 4), (9, 9, 9))).any()


def test_ids_become_classes_and_back_in_rising_order() -> None:
    segmenter = SliceSegmenter(PointwiseBuilder(), [9, 3])
    classes = segmenter.to_classes(torch.tensor([[0, 3], [9, 255]]))
    assert classes.tolist() == [[0, 1], [2, 255]]
    probabilities = torch.eye(3)[torch.tensor([[0, 1, 2]])].permute(2, 0, 1)[None]
    assert segmenter.labels_at(probabilities, (1, 3)).tolist() == [[[0, 3, 9]]]
    torch.testing.assert_close(segmenter.of_union(probabilities, (3, 9)), torch.tensor([[[0.0, 1.0, 1.0]]]))


def test_probabilities_are_resized_not_labels() -> None:
    segmenter = SliceSegmenter(PointwiseBuilder(), [1])
    inside = torch.tensor([[0.9, 0.4]])
    probabilities = torch.stack([1 - inside, inside])[None]
    # between 0.9 and 0.4 the border lies nearer to the second pixel; resized labels would change in the middle
    labels = segmenter.labels_at(probabilities, (1, 40))[0, 0].tolist()
    assert sum(labels) == 26
    assert labels == sorted(labels, reverse=True)


def _images() -> Tensor:
    return torch.randn(2, 1, 20, 13, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("window", "flips"), [(8, False), (None, True), (8, True), (64, False)])
def test_windows_and_flips_do_not_move_anything(window: int | None, flips: bool) -> None:
    whole = SliceSegmenter(PointwiseBuilder(), [1, 2]).eval()
    other = SliceSegmenter(PointwiseBuilder(), [1, 2], window, flips).eval()
    with torch.no_grad():
        expected, found = whole.probabilities(_images()), other.probabilities(_images())
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2, 20, 13))


def test_flips_average_over_the_mirrored_images() -> None:
    class Leaning(PointwiseBuilder):
        def __call__(self, classes: int) -> nn.Module:
            return nn.Conv2d(1, classes, 3, padding=1)

    torch.manual_seed(3)
    segmenter = SliceSegmenter(Leaning(), [1], flips=True).eval()
    with torch.no_grad():
        found = segmenter.probabilities(_images())
        mirrored = segmenter.probabilities(_images().flip(3)).flip(3)
    torch.testing.assert_close(found, mirrored)


def test_random_windows_belong_to_their_keys_and_cut_both_alike() -> None:
    images = _images()
    classes = (images[:, 0] * 100).long()
    cut, cut_classes = random_windows(images, classes, 6, ["a", "b"])
    assert cut.shape == (2, 1, 6, 6)
    assert torch.equal((cut[:, 0] * 100).long(), cut_classes)
    alone, _ = random_windows(images[1:], classes[1:], 6, ["b"])
    assert torch.equal(alone[0], cut[1])
    places = {tuple(random_windows(images[:1], classes[:1], 6, [str(n)])[0].flatten().tolist()) for n in range(20)}
    assert len(places) > 10
    assert random_windows(images, classes, 64, ["a", "b"])[0].shape == images.shape
