"""One view of open_clip's text towers, which skips the padding that no caption of the batch needs."""

from abc import abstractmethod
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.transformer import TextTransformer, text_global_pool
from torch import Tensor, nn

from medzeroseg.imaging.errors import InputError
from medzeroseg.models.tower import Layer, Tower

# lengths are rounded up to this: few distinct shapes, and the tensor cores' favourite multiple
_LENGTH_STEP = 8
# what one more pass through the tower costs beside its tokens, counted in tokens: on a GPU the launching of its kernels
_COST_OF_A_PASS = 512
_COST_OF_A_PASS_ON_GPU = 4096


class TextTower(Tower):
    """Adapter of one family of open_clip text towers."""

    any_shape = True

    def __init__(self, text: Any) -> None:  # noqa: ANN401
        """Adapt an open_clip text tower."""
        self.text = text

    @property
    def module(self) -> nn.Module:  # noqa: D102
        text: nn.Module = self.text
        return text

    @property
    @abstractmethod
    def max_length(self) -> int:
        """Longest token sequence that the tower has positions for."""

    @abstractmethod
    def used_lengths(self, tokens: Tensor) -> Tensor:
        """Columns of each row of ``(B, L)`` that can change its embedding, ``(B,)``; the rest is padding."""

    def look_up(self, tokens: Tensor) -> Tensor:
        """What `run` needs of the vocabulary, a row for each of ``(B, L)``; the ids themselves if it looks them up."""
        return tokens

    @abstractmethod
    def run(self, words: Tensor, tokens: Tensor) -> Tensor:
        """What `look_up` gave ``(B, L, ...)`` and its token ids ``(B, L)`` -> embeddings ``(B, D)``."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids ``(B, L)``, any L up to `max_length` -> embeddings ``(B, D)``, not normalised."""
        return self.run(self.look_up(tokens), tokens)

    def encode(self, tokens: Tensor) -> Tensor:
        """As `forward`, without computing what padding would give: the same embeddings, B at least 1.

        Rows are grouped by length and each group is cut to its longest. Captions differ several-fold in
        length, so this saves most of the work where one long caption would make all others as long.
        """
        lengths = [_rounded_up(length) for length in self.used_lengths(tokens).tolist()]
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        ordered = [lengths[row] for row in order]
        sizes = cheapest_groups(ordered, _COST_OF_A_PASS if tokens.device.type == "cpu" else _COST_OF_A_PASS_ON_GPU)
        if len(sizes) == 1:
            return self.forward(tokens[:, : ordered[-1]])
        rows, longest = torch.tensor(order, device=tokens.device), [ordered[end - 1] for end in accumulate(sizes)]
        tokens = tokens[rows, : ordered[-1]]
        # Once for all groups: the gradient of a lookup is as large as the vocabulary.
        words = torch.split(self.look_up(tokens), sizes)
        groups = zip(words, torch.split(tokens, sizes), longest, strict=True)
        return torch.cat([self.run(own[:, :n], ids[:, :n]) for own, ids, n in groups])[rows.argsort()]


class ClipTextTower(TextTower):
    """CLIP's text transformer. Its mask is causal, so nothing after the pooled end token is ever seen."""

    def __init__(self, text: Any) -> None:  # noqa: ANN401
        """Adapt the tower and see whether its padding can be dropped."""
        super().__init__(text)
        if text.cls_emb is not None or text.pool_type not in ("argmax", "eos", "first", "last"):
            raise InputError("text towers with an appended class token (CoCa) or no pooling are not supported")
        self._trimmable = text.attn_mask is not None and text.pool_type in ("argmax", "eos", "first")

    @property
    def max_length(self) -> int:  # noqa: D102
        return int(self.text.context_length)

    def used_lengths(self, tokens: Tensor) -> Tensor:  # noqa: D102
        if not self._trimmable:
            return torch.full_like(tokens[:, 0], tokens.shape[1])
        if self.text.pool_type == "first":
            return torch.ones_like(tokens[:, 0])
        # text_global_pool takes the first maximum, or the first end token
        ends = tokens if self.text.pool_type == "argmax" else (tokens == self.text.eos_id).int()
        return ends.argmax(dim=-1) + 1

    def look_up(self, tokens: Tensor) -> Tensor:  # noqa: D102
        words: Tensor = self.text.token_embedding(tokens)
        return words

    def run(self, words: Tensor, tokens: Tensor) -> Tensor:  # noqa: D102
        text, length = self.text, tokens.shape[1]
        x = words + text.positional_embedding[:length].to(words.dtype)
        mask = None if text.attn_mask is None else text.attn_mask[:length, :length]
        x = text.ln_final(text.transformer(x, attn_mask=mask))
        pooled: Tensor = text_global_pool(x, tokens, text.pool_type, eos_token_id=text.eos_id)
        if isinstance(text.text_projection, nn.Linear):
            return torch.as_tensor(text.text_projection(pooled))
        return pooled if text.text_projection is None else pooled @ text.text_projection

    def layers(self) -> list[Layer]:  # noqa: D102
        embedding: Layer = [self.text.token_embedding, self.text.positional_embedding]
        return [embedding, *([block] for block in self.text.transformer.resblocks)]

    def stacks(self) -> list[nn.Module]:  # noqa: D102
        return [self.text.transformer]


class HFTextTower(TextTower):
    """BERT-type encoders. Padding is masked out of the attention."""

    @property
    def max_length(self) -> int:  # noqa: D102
        return int(self.text.config.max_position_embeddings)

    def used_lengths(self, tokens: Tensor) -> Tensor:  # noqa: D102
        columns = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
        last: Tensor = ((tokens != self.text.config.pad_token_id) * columns).amax(dim=1)
        return last

    def run(self, words: Tensor, tokens: Tensor) -> Tensor:  # noqa: D102
        out: Tensor = self.text(tokens)
        return out

    def layers(self) -> list[Layer]:
        """As `Tower.layers`.

        Raises:
            InputError: The encoder's parts are not named as BERT's are.
        """
        encoder = self.text.transformer
        if not hasattr(encoder, "embeddings") or not hasattr(getattr(encoder, "encoder", None), "layer"):
            raise InputError(f"the layers of the text tower {type(encoder).__name__} are not known; those of BERTs are")
        return [[encoder.embeddings], *([block] for block in encoder.encoder.layer)]

    def stacks(self) -> list[nn.Module]:  # noqa: D102
        encoder = self.text.transformer
        return [encoder.encoder] if hasattr(encoder, "encoder") else self.blocks()

    def set_grad_checkpointing(self, enable: bool) -> None:  # noqa: D102
        encoder = self.text.transformer
        if enable:
            encoder.activation_checkpointing_enable()
        else:
            encoder.activation_checkpointing_disable()


class UnmaskedBertTower(HFTextTower):
    """PMC-CLIP's text path: trained on captions padded to 77 tokens without an attention mask.

    The padding takes part in its attention, so every column counts, and masking it would change the
    published model (Lin et al., MICCAI 2023; `PMC_CLIP.encode_text` of the authors' repository).
    """

    def used_lengths(self, tokens: Tensor) -> Tensor:  # noqa: D102
        return torch.full_like(tokens[:, 0], tokens.shape[1])

    def run(self, words: Tensor, tokens: Tensor) -> Tensor:  # noqa: D102
        hidden = self.text.transformer(input_ids=tokens).last_hidden_state
        out: Tensor = self.text.proj(hidden[:, 0])
        return out


def adapt_text_tower(text: nn.Module, masks_padding: bool = True) -> TextTower:
    """The adapter for an open_clip text tower.

    Args:
        text: The tower.
        masks_padding: Whether a BERT-type tower was trained with its padding masked.

    Raises:
        InputError: The tower is of a family that has no adapter.
    """
    if isinstance(text, TextTransformer):
        return ClipTextTower(text)
    if isinstance(text, HFTextEncoder):
        return HFTextTower(text) if masks_padding else UnmaskedBertTower(text)
    raise InputError(f"text tower {type(text).__name__} is not supported: open_clip's TextTransformer or HFTextEncoder")


def cheapest_groups(lengths: Sequence[int], cost_of_a_pass: int) -> list[int]:
    """Split a batch into groups, each padded to its longest row, so that all of it costs least.

    A group of n rows of at most L tokens costs n L, and `cost_of_a_pass`.

    Args:
        lengths: Tokens of each row, ascending; at least one row.
        cost_of_a_pass: In tokens.

    Returns:
        Sizes of the groups, in the order of the rows; their sum is the number of rows.
    """
    ends = [n for n in range(1, len(lengths) + 1) if n == len(lengths) or lengths[n] > lengths[n - 1]]
    # cheapest way for the first `end` rows: what it costs, and where its last group begins
    best = {0: (0, 0)}
    for end in ends:
        best[end] = min((best[start][0] + (end - start) * lengths[end - 1], start) for start in best)
        best[end] = (best[end][0] + cost_of_a_pass, best[end][1])
    sizes, end = [], len(lengths)
    while end:
        sizes.append(end - best[end][1])
        end = best[end][1]
    return sizes[::-1]


def _rounded_up(length: int) -> int:
    return max(-(-length // _LENGTH_STEP), 1) * _LENGTH_STEP
