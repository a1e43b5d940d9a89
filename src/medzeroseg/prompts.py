"""Prompts as data: templates for each modality, synonyms for each structure, and their averaged text embeddings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
import yaml
from torch import Tensor
from torch.nn import functional as F

from medzeroseg.imaging.errors import InputError

DEFAULT_PROMPTS = Path(__file__).with_name("prompts.yaml")
ANY_MODALITY = "any"


class TextEncoder(Protocol):
    """What of an image-text model prompts need: `medzeroseg.models.ImageTextModel`."""

    @property
    def tokenizer(self) -> "TextTokenizer":
        """Captions to token ids."""
        ...

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Token ids (B, L) to normalised embeddings (B, D)."""
        ...


class TextTokenizer(Protocol):
    """Captions to token ids, and their lengths."""

    @property
    def context_length(self) -> int:
        """The most tokens a text may have."""
        ...

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Captions to token ids (B, L)."""
        ...

    def token_lengths(self, texts: Sequence[str]) -> Tensor:
        """Tokens of each caption before any cut."""
        ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked for one structure.

    Attributes:
        structure: Its name, as in tables and label maps.
        texts: Sentences whose embeddings are averaged.
        reveals_ground_truth: Whether the sentences say what only the reference of the case knows; Table 2 marks it.
    """

    structure: str
    texts: tuple[str, ...]
    reveals_ground_truth: bool = False

    def __post_init__(self) -> None:
        """Refuse a prompt that says nothing.

        Raises:
            ValueError: There is no text, or one is blank.
        """
        if not self.texts or not all(text.strip() for text in self.texts):
            raise ValueError(f"prompt for {self.structure!r}: every prompt needs words, got {list(self.texts)}")


@dataclass(frozen=True)
class PromptLibrary:
    """Templates and synonyms.

    Attributes:
        templates: Modality -> sentences with `{}` for the structure; `any` serves the others.
        structures: Structure -> other words for it.
        neighbours: Modality -> structures that lie beside those asked for; `any` serves the others.
        projections: Modalities whose pictures show what lies behind one another: several structures at one place.
        reveals_ground_truth: Whether the file says of itself that its words come from the references.
    """

    templates: Mapping[str, Sequence[str]]
    structures: Mapping[str, Sequence[str]] = field(default_factory=dict)
    neighbours: Mapping[str, Sequence[str]] = field(default_factory=dict)
    projections: Sequence[str] = ()
    reveals_ground_truth: bool = False

    @classmethod
    def load(cls, path: Path | str = DEFAULT_PROMPTS) -> "PromptLibrary":
        """Read a YAML file of the form of `prompts.yaml`.

        Raises:
            InputError: The file is missing or has another form; says where.
        """
        path = Path(path)
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{path}: the prompts cannot be read ({error.strerror})") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: the prompts are no valid YAML: {error}") from error
        if not isinstance(content, dict):
            raise InputError(f"{path}: prompts have the keys templates and structures; see {DEFAULT_PROMPTS.name}")
        unknown = set(content) - {"templates", "structures", "neighbours", "projections", "reveals_ground_truth"}
        if unknown:
            raise InputError(f"{path}: unknown key {min(map(str, unknown))!r}")
        templates = _lists(content.get("templates"), f"{path}: templates")
        structures = _lists(content.get("structures") or {}, f"{path}: structures")
        neighbours = _lists(content.get("neighbours") or {}, f"{path}: neighbours")
        for modality, sentences in templates.items():
            for sentence in sentences:
                if sentence.count("{}") != 1:
                    raise InputError(f"{path}: templates: {modality}: '{sentence}' needs one {{}} for the structure")
        if not templates.get(ANY_MODALITY):
            raise InputError(f"{path}: templates: '{ANY_MODALITY}' is missing; it serves the modalities not listed")
        projections = _lists({"projections": content.get("projections") or []}, str(path))["projections"]
        return cls(templates, structures, neighbours, projections, bool(content.get("reveals_ground_truth", False)))

    def compared(self, asked: Sequence[str], modality: str, names: Sequence[str] | None = None) -> list[str]:
        """The structures whose maps only serve the calibration of those asked for.

        Args:
            asked: Structures that are asked for, which drop out, whatever their capital letters.
            modality: `cardiac MRI`, ...; one without own neighbours uses those of `any`.
            names: What to compare with; None for the modality's neighbours.
        """
        if names is None:
            names = self.neighbours.get(modality, self.neighbours.get(ANY_MODALITY, ()))
        own = {name.casefold() for name in asked}
        return [name for name in names if name.casefold() not in own]

    def prompt(self, structure: str, modality: str = ANY_MODALITY) -> Prompt:
        """Every word for the structure in every template of the modality.

        Args:
            structure: A structure's name, or any words of the user's.
            modality: `cardiac MRI`, `abdominal CT`, ...; one without own templates uses those of `any`.
        """
        words = [structure, *self.structures.get(structure, ())]
        sentences = self.templates.get(modality) or self.templates[ANY_MODALITY]
        texts = (sentence.replace("{}", word) for word in words for sentence in sentences)
        return Prompt(structure, tuple(dict.fromkeys(texts)), self.reveals_ground_truth)


def embed_prompts(model: TextEncoder, prompts: Sequence[Prompt]) -> Tensor:
    """Embed each prompt once: the normalised mean of its sentences' embeddings.

    Args:
        model: The image-text model.
        prompts: P prompts.

    Returns:
        (P, D) float32, L2-normalised, without gradient, on the model's device.
    """
    texts = [text for prompt in prompts for text in prompt.texts]
    device = next(iter(model.parameters())).device if isinstance(model, torch.nn.Module) else torch.device("cpu")
    with torch.no_grad():
        embedded = model.encode_text(model.tokenizer(texts).to(device)).float()
    parts = torch.split(embedded, [len(prompt.texts) for prompt in prompts])
    return F.normalize(torch.stack([part.mean(dim=0) for part in parts]), dim=-1)


def cut_texts(model: TextEncoder, prompts: Sequence[Prompt]) -> list[str]:
    """The sentences that are longer than the tokenizer's context, which would be cut without a word."""
    texts = [text for prompt in prompts for text in prompt.texts]
    lengths = model.tokenizer.token_lengths(texts).tolist()
    return [text for text, length in zip(texts, lengths, strict=True) if length > model.tokenizer.context_length]


def describe_cuts(model: TextEncoder, prompts: Sequence[Prompt]) -> list[str]:
    """A sentence for each prompt that `cut_texts` finds: how many of its sentences are cut, and what one loses."""
    notes = []
    for prompt in prompts:
        cut = cut_texts(model, [prompt])
        if cut:
            most = model.tokenizer.context_length
            notes.append(
                f"'{prompt.structure}': {len(cut)} of its {len(prompt.texts)} sentences are longer than the model's "
                f"{most} tokens and were cut; of '{cut[0]}' this was lost: '{_lost(model, cut[0])}'"
            )
    return notes


def _lost(model: TextEncoder, text: str) -> str:
    """The words from the first on that does not fit whole."""
    words = text.split()
    beginnings = [" ".join(words[:count]) for count in range(1, len(words) + 1)]
    lengths = model.tokenizer.token_lengths(beginnings).tolist()
    kept = sum(length <= model.tokenizer.context_length for length in lengths)
    return " ".join(words[kept:])


def _lists(value: object, place: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict) or not all(isinstance(item, list | type(None)) for item in value.values()):
        raise InputError(f"{place}: expected names with lists of texts")
    if not all(isinstance(text, str) for item in value.values() for text in item or ()):
        raise InputError(f"{place}: every entry of a list must be text (quote it)")
    return {str(name): tuple(item or ()) for name, item in value.items()}
