import pickle

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from medzeroseg.models import ImageTextModel, ImageTransform, TrainImageTransform

FLAT = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def gradient_image(width: int, height: int) -> Image.Image:
    """Red grows to the right, green to the bottom."""
    x = np.broadcast_to(np.linspace(0, 255, width), (height, width))
    y = np.broadcast_to(np.linspace(0, 255, height)[:, None], (height, width))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 255)], axis=-1).astype(np.uint8))


def test_evaluation_is_open_clips_to_the_bit(model_names: dict[str, str]) -> None:
    transform = ImageTextModel(model_names["biomedclip"]).image_transform()
    image = gradient_image(301, 207)
    cfg = PreprocessCfg(size=160)
    assert torch.equal(transform(image), image_transform_v2(cfg, is_train=False)(image))


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
    ("mode", "size"),
    [
        *(("RGB", size) for size in [(1, 1), (3, 500), (500, 3), (9000, 1), (128, 128), (1024, 700)]),
        *((mode, (128, 128)) for mode in ["L", "RGBA", "P", "1"]),
    ],
)
def test_any_image_becomes_the_models_shape(size: tuple[int, int], mode: str, train: bool) -> None:
    for resize_mode in ("shortest", "longest", "squash"):
        cfg = PreprocessCfg(size=(32, 32), resize_mode=resize_mode)
        transform = TrainImageTransform(cfg) if train else ImageTransform(cfg)
        out = transform(Image.new(mode, size))
        assert out.shape == (3, 32, 32)
        assert out.dtype == torch.float32
        assert out.isfinite().all()


@pytest.mark.parametrize(("resize_mode", "seen"), [("shortest", 0.5), ("squash", 1.0), ("longest", 1.0)])
def test_resize_modes_show_what_they_promise(resize_mode: str, seen: float) -> None:
    cfg = PreprocessCfg(size=(64, 64), resize_mode=resize_mode, interpolation="bilinear", **FLAT)
    out = ImageTransform(cfg)(gradient_image(256, 128))
    assert (out[0].max() - out[0].min()).item() == pytest.approx(seen, abs=0.05)
    assert ((out[2] < 0.5).float().mean() > 0.4) == (resize_mode == "longest")  # half of the square is padding


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
def test_training_without_its_randomness_is_the_evaluation(resize_mode: str) -> None:
    cfg = PreprocessCfg(size=(64, 64), resize_mode=resize_mode, interpolation="bilinear", **FLAT)
    image = gradient_image(256, 160)
    still = TrainImageTransform(cfg, scale=(1.0, 1.0), ratio=(1.0, 1.0), brightness=0.0)(image)
    difference = (still - ImageTransform(cfg)(image)).abs()
    assert difference.mean() < 0.01


def test_training_is_mild_random_and_never_flips() -> None:
    cfg = PreprocessCfg(size=(64, 64), **FLAT)
    transform = TrainImageTransform(cfg)
    torch.manual_seed(0)
    outs = [transform(gradient_image(128, 128)) for _ in range(50)]
    assert len({tuple(out.flatten().tolist()[:50]) for out in outs}) == 50
    for out in outs:
        assert out[0, :, -1].mean() - out[0, :, 0].mean() > 0.6
        assert out[1, -1].mean() - out[1, 0].mean() > 0.6


def test_training_follows_torchs_seed_and_can_be_pickled() -> None:
    transform = TrainImageTransform(PreprocessCfg(size=(32, 32)))
    image = gradient_image(50, 40)
    torch.manual_seed(5)
    first = transform(image)
    torch.manual_seed(5)
    assert torch.equal(pickle.loads(pickle.dumps(transform))(image), first)
    evaluation = ImageTransform(PreprocessCfg(size=(32, 32)))
    assert torch.equal(pickle.loads(pickle.dumps(evaluation))(image), evaluation(image))


def test_the_models_own_statistics_and_policy_are_used(model_names: dict[str, str]) -> None:
    biomedclip = ImageTextModel(model_names["biomedclip"]).image_transform(train=True).preprocess
    assert biomedclip.mean == [0.48145466, 0.4578275, 0.40821073]
    assert biomedclip.resize_mode == "shortest"
    assert ImageTextModel("small").image_transform().preprocess.resize_mode == "longest"
    assert ImageTextModel("small", resize_mode="squash").image_transform().preprocess.resize_mode == "squash"


@pytest.mark.parametrize(
    "arguments", [{"scale": (0.0, 1.0)}, {"scale": (0.9, 0.5)}, {"ratio": (0.0, 1.0)}, {"brightness": 1.0}]
)
def test_bad_ranges_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        TrainImageTransform(PreprocessCfg(), **arguments)
