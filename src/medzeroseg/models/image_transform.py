"""Images to the tensors that a model was trained on."""

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor
from torchvision.transforms import Normalize, ToTensor

ResizeMode = Literal["shortest", "longest", "squash"]


class ImageTransform:
    """Evaluation: the model's own preprocessing, as open_clip does it, to the bit.

    What becomes of an image that is not square is the model's own policy (`resize_mode`): ``shortest`` (CLIP,
    BiomedCLIP, PMC-CLIP) scales the shorter edge and crops the centre, so the ends of the longer edge are
    lost; ``longest`` keeps everything and pads with black; ``squash`` keeps everything and distorts.

    Args:
        preprocess: Size in pixels, mean, std, interpolation and resize mode.
    """

    is_random = False
    """Draws no random numbers: a dataset need not seed any."""

    def __init__(self, preprocess: PreprocessCfg) -> None:
        """Compose the steps."""
        self.preprocess = preprocess
        transform = image_transform_v2(preprocess, is_train=False)
        *self._geometry, to_tensor, normalise = transform.transforms
        if not isinstance(to_tensor, ToTensor) or not isinstance(normalise, Normalize):
            raise TypeError("open_clip's preprocessing no longer ends in ToTensor and Normalize")
        # Both act on one of 256 values at a time: done once for all of them, they become a table, with equal results.
        grey_levels = to_tensor(np.arange(256, dtype=np.uint8)[:, None, None].repeat(3, axis=2))
        self._values = normalise(grey_levels)[:, :, 0].numpy()

    def __call__(self, image: Image.Image) -> Tensor:
        """An image of any mode and size -> ``(3, H, W)`` float32, normalised by the model's mean and std."""
        # an image more elongated than the tower's pixels can show: its shorter edge would vanish, or its
        # longer one, scaled with it, fill the memory
        least = math.ceil(max(image.size) / min(self.preprocess.input_size[1:]))
        if min(image.size) < least:
            image = image.convert("RGB").resize((max(image.width, least), max(image.height, least)))
        for step in self._geometry:
            image = step(image)
        return _look_up(image, self._values)


class TrainImageTransform:
    """Training: a mild random crop and brightness around the evaluation preprocessing.

    No flip: left and right are anatomy. The random numbers come from torch's generator, which the dataset
    seeds for each item.

    Args:
        preprocess: As for `ImageTransform`; the crop is taken inside what that policy shows.
        scale: Range of the crop's share of the area, in (0, 1].
        ratio: Range of the crop's aspect ratio relative to the whole.
        brightness: Largest relative change of brightness, in [0, 1).
    """

    draws_from_torch = True
    """And from no other generator, which a dataset need not seed then."""

    def __init__(
        self,
        preprocess: PreprocessCfg,
        scale: tuple[float, float] = (0.8, 1.0),
        ratio: tuple[float, float] = (0.9, 1.1),
        brightness: float = 0.1,
    ) -> None:
        """Check and keep the ranges."""
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale must be an increasing pair in (0, 1], not {scale}")
        if not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"ratio must be an increasing pair of positive numbers, not {ratio}")
        if not 0 <= brightness < 1:
            raise ValueError(f"brightness must be in [0, 1), not {brightness}")
        self.preprocess = preprocess
        self.scale, self.ratio, self.brightness = scale, ratio, brightness

    def __call__(self, image: Image.Image) -> Tensor:
        """An image of any mode and size -> ``(3, H, W)`` float32, normalised by the model's mean and std."""
        area, aspect, top, left, bright = torch.rand(5).tolist()
        area = self.scale[0] + area * (self.scale[1] - self.scale[0])
        aspect = self.ratio[0] * (self.ratio[1] / self.ratio[0]) ** aspect
        out_h, out_w = self.preprocess.input_size[1:]
        # a grey picture stays grey until it is small
        shown = _shown_part(image if image.mode == "L" else image.convert("RGB"), out_h / out_w, self.preprocess)
        # shares of the shown part, so that a squashed image is cropped in its squashed geometry
        height = min(math.sqrt(area / aspect), 1.0) * shown.height
        width = min(math.sqrt(area * aspect), 1.0) * shown.width
        top, left = top * (shown.height - height), left * (shown.width - width)
        bilinear = self.preprocess.interpolation == "bilinear"
        filter_ = Image.Resampling.BILINEAR if bilinear else Image.Resampling.BICUBIC
        crop = shown.resize((out_w, out_h), filter_, box=(left, top, left + width, top + height))
        grey_levels = np.arange(256, dtype=np.float32) / np.float32(255)
        shown_as = np.clip(grey_levels * np.float32(1 + self.brightness * (2 * bright - 1)), 0, 1)
        mean, std = (np.asarray(values, np.float32)[:, None] for values in (self.preprocess.mean, self.preprocess.std))
        return _look_up(crop, (shown_as - mean) / std)


def _look_up(image: Image.Image, values: npt.NDArray[np.float32]) -> Tensor:
    """Replace each 8-bit value of a grey or RGB image by what a table (3, 256) says: ``(3, H, W)`` float32."""
    pixels = np.asarray(image)
    out = np.empty((3, *pixels.shape[:2]), dtype=np.float32)
    for channel in range(3):
        np.take(values[channel], pixels if pixels.ndim == 2 else pixels[:, :, channel], out=out[channel], mode="clip")
    return torch.from_numpy(out)


def _shown_part(image: Image.Image, aspect: float, preprocess: PreprocessCfg) -> Image.Image:
    """Crop or pad to height / width = `aspect` as the evaluation policy does, at the source's resolution."""
    if preprocess.resize_mode == "squash":
        return image
    pads = preprocess.resize_mode == "longest"
    taller = image.height > image.width * aspect
    if taller == pads:
        height, width = image.height, max(round(image.height / aspect), 1)
    else:
        height, width = max(round(image.width * aspect), 1), image.width
    fill = preprocess.fill_color if image.mode == "L" else (preprocess.fill_color,) * 3
    canvas = Image.new(image.mode, (width, height), fill)
    canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return canvas
