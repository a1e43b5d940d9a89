"""Does open_clip give what we give? Asked of the folder that was just written, before anybody else is told so."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch.nn import functional as F

from medzeroseg.models import ImageTextModel, LocalConvNet

TOLERANCE = 1e-4
"""Largest difference of a coordinate of a unit vector that still counts as equal in float32."""
_LONGEST = 300  # characters of an error of open_clip, which lists every weight


def compare_with_open_clip(model: ImageTextModel, folder: Path, model_cfg: dict[str, Any]) -> dict[str, Any]:
    """Load a folder as open_clip does and compare the embeddings of two probe images and captions.

    Args:
        model: The model that was written.
        folder: Where.
        model_cfg: As written there.

    Returns:
        Plain values: `loads`; `equal`; largest absolute differences of `image` and `text` embeddings; `needs_import`,
        the module that registers an image trunk of ours with timm, or None; `reason` where it does not load or differs.
    """
    found: dict[str, Any] = {"loads": False, "equal": False, "needs_import": None, "reason": ""}
    if isinstance(getattr(model.clip.visual, "trunk", None), LocalConvNet):
        found["needs_import"] = "medzeroseg.models"  # timm knows the trunk from then on
    options: dict[str, Any] = {}
    if model_cfg["text_cfg"].get("hf_model_name"):
        # open_clip would ask the hub for the text tower's configuration; the folder has it
        options["text_cfg"] = {**model_cfg["text_cfg"], "hf_model_name": str(folder), "hf_model_pretrained": False}
    try:
        with _quiet():
            theirs = open_clip.create_model(f"local-dir:{folder}", **options).eval()
    except (RuntimeError, ValueError, TypeError, KeyError, OSError) as error:
        said = " ".join(str(error).replace(str(folder), "the folder").split())
        return {**found, "reason": f"open_clip does not load it: {said[:_LONGEST]}"}
    images, tokens = probe_images(model, 2), model.tokenizer(["a small lesion", "left ventricle on cardiac MRI"])
    with torch.no_grad():
        pairs = {
            "image": (model.encode_image(images), F.normalize(theirs.encode_image(images), dim=-1)),
            "text": (model.encode_text(tokens), F.normalize(theirs.encode_text(tokens), dim=-1)),
        }
    differences = {kind: float((ours - other).abs().max()) for kind, (ours, other) in pairs.items()}
    reasons = []
    if differences["image"] > TOLERANCE:
        what = "DPFEM, which open_clip leaves out, adds to them" if model.dpfem is not None else "of its image tower"
        reasons.append(f"image embeddings differ: {what}")
    if differences["text"] > TOLERANCE:
        what = "its text tower sees the padding" if not model.source.masks_padding else "of its text tower"
        reasons.append(f"text embeddings differ: {what}")
    return {**found, "loads": True, "equal": not reasons, **differences, "reason": "; ".join(reasons)}


def probe_images(model: ImageTextModel, count: int) -> torch.Tensor:
    """Images of noise from a fixed seed, ``(count, 3, H, W)`` at the model's size."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, *model.image_size_px, generator=generator)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without open_clip's reports of what it does."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
