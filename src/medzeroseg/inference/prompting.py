"""The words that are asked for, embedded, and what of them the tokenizer cuts off."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from medzeroseg.models import ImageTextModel
from medzeroseg.prompts import Prompt, PromptLibrary, describe_cuts, embed_prompts


@dataclass(frozen=True)
class EmbeddedPrompts:
    """Prompts of one modality.

    Attributes:
        prompts: Of the P structures asked for.
        embeddings: (P + C, D), unit: of those, then of the C structures for comparison.
        cut: Sentences that say which prompt was cut, and what of it was lost.
    """

    prompts: tuple[Prompt, ...]
    embeddings: Tensor
    cut: tuple[str, ...]


def embed(
    model: ImageTextModel,
    library: PromptLibrary,
    texts: Sequence[str],
    compare_with: Sequence[str] | None,
    modality: str,
) -> EmbeddedPrompts:
    """Put the texts into the templates of a modality and embed them.

    A text that is a structure of the library but for capital letters takes its synonyms.

    Args:
        model: The image-text model.
        library: Templates and synonyms.
        texts: P names of structures, as the user wrote them.
        compare_with: Structures for comparison, None for the neighbours of the modality; those asked for are left out.
        modality: Key of the templates.
    """
    known = {name.casefold(): name for name in library.structures}
    prompts = [
        Prompt(text, library.prompt(known.get(text.casefold(), text), modality).texts, library.reveals_ground_truth)
        for text in texts
    ]
    others = [library.prompt(name, modality) for name in library.compared(texts, modality, compare_with)]
    embeddings = embed_prompts(model, [*prompts, *others])
    return EmbeddedPrompts(tuple(prompts), embeddings, tuple(describe_cuts(model, prompts)))
