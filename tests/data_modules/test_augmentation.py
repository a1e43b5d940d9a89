import dataclasses
import json
import math

import numpy as np
import pytest
from scipy import ndimage

from data_modules.augmentation import (
    AbdominalCTAugmentation,
    AugmentationParameters,
    CardiacMRAugmentation,
    ChestXRayAugmentation,
    SliceAugmentation,
)
from data_modules.augmentation_transforms import Geometry, Intensity, bias_field, bias_field_terms

PRESETS = [CardiacMRAugmentation, AbdominalCTAugmentation, ChestXRayAugmentation]


def make_slice(height: int = 40, width: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    mask[8:22, 10:30] = 3
    mask[20:34, 26:50] = 255
    image = np.clip(mask / 255 * 0.5 + ndimage.gaussian_filter(rng.random((height, width)), 2), 0, 1)
    return image.astype(np.float32), mask


def move_slowly(array: np.ndarray, geometry: Geometry, order: int) -> np.ndarray:
    """Pixel by pixel, from the definition: mirror, then enlarge, turn clockwise and shift about the centre."""
    height, width = array.shape
    angle = math.radians(geometry.rotation_deg)
    moved = np.zeros((height, width), np.float64)
    padded = np.pad(array.astype(np.float64), 1)
    for row in range(height):
        for column in range(width):
            y = row + 0.5 - height / 2 - geometry.shift[0] * height
            x = column + 0.5 - width / 2 - geometry.shift[1] * width
            # undo the clockwise turn (rows run downwards), then the magnification
            source_x = (math.cos(angle) * x + math.sin(angle) * y) / geometry.scale
            source_y = (-math.sin(angle) * x + math.cos(angle) * y) / geometry.scale
            if geometry.flip_left_right:
                source_x = -source_x
            r, c = source_y + height / 2 - 0.5 + 1, source_x + width / 2 - 0.5 + 1  # in the padded array
            if order == 0:
                r, c = round(r), round(c)
                moved[row, column] = padded[r, c] if 0 <= r < height + 2 and 0 <= c < width + 2 else 0
                continue
            top, left = math.floor(r), math.floor(c)
            for i, j in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                if 0 <= i < height + 2 and 0 <= j < width + 2:
                    moved[row, column] += padded[i, j] * (1 - abs(r - i)) * (1 - abs(c - j))
    return moved


@pytest.mark.parametrize(
    "geometry",
    [
        Geometry(rotation_deg=90.0),
        Geometry(rotation_deg=17.0, scale=1.3, shift=(0.1, -0.07)),
        Geometry(rotation_deg=-40.0, scale=0.7, shift=(-0.2, 0.3), flip_left_right=True),
    ],
)
def test_geometry_is_what_it_says_pixel_by_pixel(geometry: Geometry):
    image, mask = make_slice()
    moved, labels = geometry.apply(image, mask)
    np.testing.assert_allclose(moved, move_slowly(image, geometry, 1), atol=2e-4)
    # ties of the nearest neighbour may fall either way in float32
    assert (labels != move_slowly(mask, geometry, 0)).mean() < 0.002
    assert set(np.unique(labels)) <= {0, 3, 255}
    assert labels.dtype == np.uint8


def test_a_quarter_turn_is_clockwise_and_a_flip_mirrors():
    image = np.zeros((30, 30), np.float32)
    image[2:8, 12:18] = 1  # at the top
    moved, _ = Geometry(rotation_deg=90.0).apply(image, np.zeros((30, 30), np.uint8))
    np.testing.assert_allclose(moved, np.rot90(image, -1), atol=1e-4)  # at the right
    image, mask = make_slice()
    moved, labels = Geometry(flip_left_right=True).apply(image, mask)
    np.testing.assert_allclose(moved, image[:, ::-1], atol=1e-5)
    assert (labels == mask[:, ::-1]).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_labels_move_with_the_image_and_nothing_else_touches_them(preset: type[SliceAugmentation]):
    """The image is the mask itself: after any augmentation its thresholded geometry is the label's."""
    _, mask = make_slice(96, 96)
    image = (mask > 0).astype(np.float32)
    for seed in range(15):
        parameters = preset().sample(seed)
        _, labels = preset().apply(image, mask, parameters)
        moved, alone = parameters.geometry.apply(image, mask)
        assert (labels == alone).all()
        assert ((moved > 0.5) != (labels > 0)).mean() < 0.01


@pytest.mark.parametrize("preset", PRESETS)
def test_a_seed_gives_the_same_bytes_and_a_log_replays_it(preset: type[SliceAugmentation]):
    image, mask = make_slice()
    before = image.copy(), mask.copy()
    augment = preset(probability=1.0)
    first, second = augment(image, mask, seed=7), augment(image, mask, seed=7)
    assert first[0].tobytes() == second[0].tobytes()
    assert first[1].tobytes() == second[1].tobytes()
    assert augment(image, mask, seed=8)[0].tobytes() != first[0].tobytes()
    logged = json.loads(json.dumps(dataclasses.asdict(augment.sample(7))))
    geometry = Geometry(**{**logged["geometry"], "shift": tuple(logged["geometry"]["shift"])})
    intensity = Intensity(
        **{**logged["intensity"], "bias_coefficients": tuple(logged["intensity"]["bias_coefficients"])}
    )
    replayed = augment.apply(image, mask, AugmentationParameters(geometry, intensity))
    assert replayed[0].tobytes() == first[0].tobytes()
    assert (image == before[0]).all()
    assert (mask == before[1]).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_stay_in_range_change_something_and_do_not_mirror(preset: type[SliceAugmentation]):
    image, mask = make_slice()
    augment = preset()
    for seed in range(40):
        parameters = augment.sample(seed)
        assert not parameters.geometry.flip_left_right
        assert abs(parameters.geometry.rotation_deg) <= augment.rotation_deg
        assert augment.gamma[0] <= parameters.intensity.gamma <= augment.gamma[1]
        changed, labels = augment.apply(image, mask, parameters)
        assert changed.dtype == np.float32
        assert changed.shape == labels.shape == image.shape
        assert changed.min() >= 0
        assert changed.max() <= 1
        assert (changed != image).any()
    assert any(preset(flip_left_right=0.5).sample(seed).geometry.flip_left_right for seed in range(20))


def test_draws_fill_their_ranges():
    augment = SliceAugmentation(rotation_deg=10, scale=(0.5, 2.0), shift=0.1, gamma=(0.5, 2.0), probability=0.3)
    drawn = [augment.sample(seed) for seed in range(400)]
    angles = [p.geometry.rotation_deg for p in drawn]
    assert min(angles) < -9
    assert max(angles) > 9
    assert abs(np.mean(angles)) < 1
    assert abs(np.mean([math.log(p.geometry.scale) for p in drawn])) < 0.1  # as often smaller as larger
    assert np.mean([p.intensity.gamma != 1 for p in drawn]) == pytest.approx(0.3, abs=0.06)
    # closing one range leaves the other draws alone
    assert [SliceAugmentation(rotation_deg=10).sample(seed).geometry.rotation_deg for seed in range(400)] == angles


def test_without_ranges_nothing_changes():
    image, mask = make_slice()
    changed, labels = SliceAugmentation()(image, mask, seed=3)
    assert (changed == image).all()
    assert (labels == mask).all()


class TestIntensity:
    def test_each_change_against_its_formula(self):
        image, _ = make_slice()
        image = 0.2 + 0.5 * image
        np.testing.assert_allclose(Intensity(gamma=2).apply(image), image**2, atol=1e-6)
        np.testing.assert_allclose(
            Intensity(contrast=0.5).apply(image), (image + image.mean(dtype=np.float64)) / 2, atol=1e-6
        )
        np.testing.assert_allclose(Intensity(brightness=0.5).apply(image), np.minimum(image + 0.5, 1), atol=1e-6)
        assert Intensity(blur_sigma_px=2).apply(image).std() < image.std()

    def test_noise_has_its_size_and_rician_noise_lifts_the_dark(self):
        grey, black = np.full((200, 200), 0.5, np.float32), np.zeros((200, 200), np.float32)
        noisy = Intensity(noise_std=0.05, noise_seed=4).apply(grey)
        assert noisy.std() == pytest.approx(0.05, rel=0.03)
        assert noisy.mean() == pytest.approx(0.5, abs=1e-3)
        # The magnitude of complex noise over nothing is Rayleigh distributed.
        lifted = Intensity(noise_std=0.05, noise_seed=4, rician=True).apply(black)
        assert lifted.mean() == pytest.approx(0.05 * math.sqrt(math.pi / 2), rel=0.03)

    def test_a_bias_field_is_smooth_and_positive(self):
        rng = np.random.default_rng(0)
        field = bias_field((64, 48), tuple(rng.uniform(-0.3, 0.3, bias_field_terms())))
        assert field.min() > 0
        assert field.std() > 0.05
        assert max(np.abs(np.diff(np.log(field), axis=axis)).max() for axis in (0, 1)) < 0.2
        only = bias_field((3, 3), (0.5, *[0.0] * (bias_field_terms() - 1)))  # the first: P1 of the columns
        np.testing.assert_allclose(only, np.exp(0.5 * np.array([[-1, 0, 1]] * 3)), rtol=1e-6)
        with pytest.raises(ValueError, match="bias_coefficients: expected 9, got 1"):
            bias_field((4, 4), (0.1,))


class TestBadInput:
    def test_labels_have_no_intensity(self):
        image, mask = make_slice()
        with pytest.raises(ValueError, match="expected float32"):
            Intensity(gamma=2).apply(mask)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="mask: expected uint8"):
            SliceAugmentation()(image, image, seed=0)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="image: expected float32"):
            SliceAugmentation()(mask, mask, seed=0)  # type: ignore[arg-type]

    def test_shapes_must_agree(self):
        image, mask = make_slice()
        with pytest.raises(ValueError, match=r"mask: expected uint8 \(40, 60\) as the image, got uint8 \(40, 59\)"):
            CardiacMRAugmentation()(image, mask[:, :-1], seed=0)

    @pytest.mark.parametrize(
        ("options", "name"),
        [
            ({"scale": (1.2, 0.8)}, "scale"),
            ({"gamma": (0.0, 1.0)}, "gamma"),
            ({"contrast": (1.0, math.inf)}, "contrast"),
            ({"probability": 1.5}, "probability"),
            ({"flip_left_right": -0.1}, "flip_left_right"),
            ({"rotation_deg": 200.0}, "rotation_deg"),
            ({"noise_std": -1.0}, "noise_std"),
            ({"blur_sigma_px": math.inf}, "blur_sigma_px"),
            ({"shift": math.nan}, "shift"),
        ],
    )
    def test_ranges_out_of_range_are_named(self, options: dict[str, object], name: str):
        with pytest.raises(ValueError, match=name):
            SliceAugmentation(**options)  # type: ignore[arg-type]
