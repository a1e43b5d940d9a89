"""From the names that windows show and lack to phrases and targets."""

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from medzeroseg.losses.presence import ABSENT, SHOWN, UNSAID
from medzeroseg.prompts import ANY_MODALITY, PromptLibrary

Name = tuple[str, str]
"""Kind of picture and structure: a kidney in a CT is asked of CT only."""

_CONSONANTS, _VOWELS = "bdfghjklmnprstvwz", "aeiou"


def name_targets(
    kinds: Sequence[str], shows: Sequence[Sequence[str]], lacks: Sequence[Sequence[str]]
) -> tuple[list[Name], Tensor]:
    """Tabulate what is said.

    Args:
        kinds: Of each of N windows, what it is a picture of.
        shows: Names of what each shows.
        lacks: Names of what each does not.

    Returns:
        K names, sorted, and (N, K) int8 targets of `PresenceLoss`.
    """
    said = [
        (row, (kind, name), target)
        for row, (kind, *both) in enumerate(zip(kinds, shows, lacks, strict=True))
        for target, names in zip((SHOWN, ABSENT), both, strict=True)
        for name in names
    ]
    names = sorted({name for _, name, _ in said})
    column = {name: n for n, name in enumerate(names)}
    targets = torch.full((len(kinds), len(names)), UNSAID, dtype=torch.int8)
    for row, name, target in said:
        targets[row, column[name]] = target
    return names, targets


def unasked_names(names: Sequence[Name], library: PromptLibrary, step: int, count: int) -> list[Name]:
    """Names that pictures of each kind answer with no: made-up words, and structures of the other kinds.

    A window says what it shows and lacks of what its kind may show. Of anything else a model hears nothing, and what a
    text unheard of happens to lie close to is its answer. Left out are structures that may be in the picture though
    nobody outlined them: the neighbours in the file of prompts, and what shares its noun with a known one, as "aorta"
    with "descending aorta".

    Args:
        names: Those of the batch, of all kinds.
        library: Its `neighbours`.
        step: Seeds the draw, alike on all ranks and in a resumed run.
        count: Made-up names, and at most so many structures, for each kind.
    """
    found: list[Name] = []
    for kind in sorted({kind for kind, _ in names}):
        draw = random.Random(f"{step}/{kind}/unasked")
        found += [(kind, " ".join(_made_up(draw) for _ in range(draw.randint(1, 3)))) for _ in range(count)]
        anywhere = library.neighbours.get(ANY_MODALITY, ())
        own = [*(name for of, name in names if of == kind), *library.compared((), kind), *anywhere]
        nouns = {_noun(name) for name in own}
        foreign = sorted({name for of, name in names if of != kind and _noun(name) not in nouns})
        found += [(kind, name) for name in draw.sample(foreign, min(count, len(foreign)))]
    return found


def unasked_targets(kinds: Sequence[str], unasked: Sequence[Name]) -> Tensor:
    """Their targets: absent from pictures of their kind, unsaid of the others.

    Args:
        kinds: Of each of N windows, what it is a picture of.
        unasked: K' names, as `unasked_names` gives them.

    Returns:
        (N, K') int8.
    """
    targets = torch.full((len(kinds), len(unasked)), UNSAID, dtype=torch.int8)
    for column, (of, _) in enumerate(unasked):
        targets[[kind == of for kind in kinds], column] = ABSENT
    return targets


def _made_up(draw: random.Random) -> str:
    """A word of two to four syllables that no language has, or hardly."""
    return "".join(draw.choice(_CONSONANTS) + draw.choice(_VOWELS) for _ in range(draw.randint(2, 4)))


def _noun(name: str) -> str:
    return name.casefold().split()[-1].removesuffix("s")


def word_names(names: Sequence[Name], library: PromptLibrary, step: int) -> list[str]:
    """One sentence for each name, drawn from those that prompts will ask.

    Args:
        names: K names.
        library: Templates and synonyms.
        step: Seeds the draw, alike on all ranks and in a resumed run.
    """
    texts = [library.prompt(name, kind).texts for kind, name in names]
    return [
        random.Random(f"{step}/{kind}/{name}").choice(options)
        for (kind, name), options in zip(names, texts, strict=True)
    ]
