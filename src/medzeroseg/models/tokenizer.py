"""Captions to token ids, with the lengths that truncation would hide."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from torch import Tensor

_REMEMBERED = 20_000
"""Captions whose tokens are kept: CLIP's encoding is Python's, half a millisecond each, and epochs repeat them."""


class Tokenizer:
    """Turns captions into padded token ids; picklable, so that data-loader workers can hold it.

    Args:
        backend: open_clip's `SimpleTokenizer` (CLIP's byte-pair encoding, bundled) or `HFTokenizer`.
        context_length: Tokens per caption, special tokens included; longer captions are cut.
    """

    def __init__(self, backend: Any, context_length: int) -> None:  # noqa: ANN401
        """Wrap an open_clip tokenizer."""
        if not isinstance(backend, SimpleTokenizer | HFTokenizer):
            raise ValueError(f"backend must be a SimpleTokenizer or HFTokenizer, not {type(backend)}")
        if context_length < 3:
            raise ValueError(f"context_length must be at least 3 (start, token, end), not {context_length}")
        self._backend = backend
        self.context_length = context_length
        self._remembered: dict[str, npt.NDArray[np.int64]] = {}

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        if isinstance(self._backend, SimpleTokenizer):
            return int(self._backend.vocab_size)
        return len(self._backend.tokenizer)

    @property
    def pad_id(self) -> int:
        """Token id of the padding."""
        return 0 if isinstance(self._backend, SimpleTokenizer) else int(self._backend.tokenizer.pad_token_id)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Captions (B,) -> token ids ``(B, context_length)``, long, padded on the right."""
        if isinstance(texts, str):
            texts = [texts]
        if len(texts) == 0:
            return torch.zeros(0, self.context_length, dtype=torch.long)
        if isinstance(self._backend, SimpleTokenizer):
            return torch.from_numpy(np.stack([self._row(text) for text in texts]))
        tokens: Tensor = self._backend(list(texts), context_length=self.context_length)
        return tokens.long()

    def token_lengths(self, texts: Sequence[str]) -> Tensor:
        """Tokens of each caption, special tokens included, before any cut: ``(B,)``, long.

        A caption is cut where its length exceeds `context_length`.
        """
        if isinstance(texts, str):
            texts = [texts]
        return torch.tensor([self._length(text) for text in texts], dtype=torch.long)

    def count_truncated(self, texts: Sequence[str]) -> int:
        """How many of the captions lose tokens to `context_length`."""
        return int((self.token_lengths(texts) > self.context_length).sum())

    def save(self, folder: Path) -> None:
        """Write its files into a folder; the bundled one of CLIP has none."""
        if isinstance(self._backend, HFTokenizer):
            self._backend.tokenizer.save_pretrained(str(folder))

    def __getstate__(self) -> dict[str, Any]:
        """What a worker process is sent: each remembers for itself."""
        return self.__dict__ | {"_remembered": {}}

    def _row(self, text: str) -> npt.NDArray[np.int64]:
        if text not in self._remembered:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[text] = self._backend([text], context_length=self.context_length)[0].long().numpy()
        return self._remembered[text]

    def _length(self, text: str) -> int:
        if isinstance(self._backend, SimpleTokenizer):
            return len(self._backend.encode(text)) + 2
        cleaned = self._backend.clean_fn(text)
        # verbose=False: the tokenizer would warn of the very thing that is being counted
        return len(self._backend.tokenizer(cleaned, truncation=False, verbose=False).input_ids)
