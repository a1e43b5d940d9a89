"""From the names that windows show and lack to phrases and targets."""

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from medzeroseg.losses.presence import ABSENT, SHOWN, UNSAID
from medzeroseg.prompts import PromptLibrary

Name = tuple[str, str]
"""Kind of picture and structure: a kidney in a CT is asked of CT only."""


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
