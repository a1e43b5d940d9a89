"""A picture of image-text pairs and of what the model retrieves for them."""

import io
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from medzeroseg.dashboard import tensorboards
from medzeroseg.files import write_atomically

# Okabe and Ito's colours: told apart with any colour vision
_RIGHT, _WRONG, _INK = (0, 114, 178), (213, 94, 0), (0, 0, 0)
_CELL_PX, _TEXT_PX, _LINE_PX, _LINE_CHARACTERS = 192, 148, 12, 32


class PairSheet(Callback):
    """After each validation epoch, shows pairs: image, its text, and the text that the model ranks first for it.

    The first validation batch is both shown and searched: a right answer is blue, a wrong one orange and followed by
    the text retrieved. Goes to TensorBoard (`val/pairs`) and to `pair_sheet.png` in the run's folder.

    Args:
        pairs: How many to show.
        columns: How many side by side.
    """

    def __init__(self, pairs: int = 16, columns: int = 8) -> None:
        if pairs < 1 or columns < 1:
            raise ValueError(f"pairs and columns must be at least 1, got {pairs} and {columns}")
        self.pairs = pairs
        self.columns = columns

    @rank_zero_only
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's STEP_OUTPUT
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the first batch."""
        if batch_idx or trainer.sanity_checking:
            return
        similarity = outputs["image_embeddings"].float() @ outputs["text_embeddings"].float().T
        best = similarity.argmax(dim=1).tolist()
        shown = min(self.pairs, len(best))
        sheet = draw_pairs(
            batch["image"][:shown],
            batch["text"][:shown],
            [batch["text"][i] for i in best[:shown]],
            self.columns,
        )
        for writer in tensorboards(trainer):
            writer.add_image("val/pairs", np.asarray(sheet), trainer.global_step, dataformats="HWC")
        buffer = io.BytesIO()
        sheet.save(buffer, format="PNG")
        write_atomically(Path(trainer.default_root_dir) / "pair_sheet.png", buffer.getvalue())


def draw_pairs(images: Tensor, texts: list[str], retrieved: list[str], columns: int) -> Image.Image:
    """Draw pairs as a grid.

    Args:
        images: (B, 3, H, W) float, in any range: each is stretched to the full range of grey.
        texts: Their own texts.
        retrieved: The texts ranked first for them.
        columns: Pairs side by side.

    Returns:
        An RGB picture.
    """
    rows = -(-len(texts) // columns)
    height = _CELL_PX + _TEXT_PX
    sheet = Image.new("RGB", (columns * _CELL_PX, rows * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=10)
    for n, (image, text, answer) in enumerate(zip(images, texts, retrieved, strict=True)):
        left, top = n % columns * _CELL_PX, n // columns * height
        sheet.paste(_to_picture(image).resize((_CELL_PX, _CELL_PX)), (left, top))
        right = answer == text
        colour = _RIGHT if right else _WRONG
        draw.rectangle((left, top, left + _CELL_PX - 1, top + _CELL_PX - 1), outline=colour, width=3)
        lines = [(line, _INK) for line in textwrap.wrap(text, _LINE_CHARACTERS)[: 12 if right else 7]]
        if not right:
            lines += [(line, _WRONG) for line in textwrap.wrap(f"not: {answer}", _LINE_CHARACTERS)[:5]]
        for row, (line, ink) in enumerate(lines):
            draw.text((left + 3, top + _CELL_PX + 3 + row * _LINE_PX), line, fill=ink, font=font)
    return sheet


def _to_picture(image: Tensor) -> Image.Image:
    image = image.detach().float().cpu()
    low, high = image.amin(), image.amax()
    scaled = (image - low) / (high - low).clamp_min(torch.finfo(torch.float32).eps)
    return Image.fromarray((scaled.permute(1, 2, 0) * 255).round().byte().numpy())
