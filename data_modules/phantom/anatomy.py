"""What every scene of the phantom has: structures, facts, and a picture with its label map."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data_modules.phantom.geometry import FloatImage, LabelImage
from data_modules.phantom.randomness import Streams

Facts = dict[str, str]
"""Name of each factor and its value in a scene, e.g. `{"gallbladder": "absent"}`."""


@dataclass(frozen=True)
class Structure:
    """An entry of a label map.

    Args:
        index: Value in the label map, 1 to 255.
        name: Name in captions and tables.
        part_of: Name of the structure that this one lies in and replaces in the label map (a scar in the
            myocardium): its full extent is the union of both.
    """

    index: int
    name: str
    part_of: str | None = None


@dataclass(frozen=True)
class Factor:
    """Something about a scene that varies, can be seen, and is said in the caption.

    Args:
        name: Key in the facts.
        values: Each value and its relative frequency.
        usual: The value that a caption may leave unsaid (every other value is always said).
        changes_labels: Whether another value changes the label map, or the intensities alone.
        contrasts: Whether pairs of hard negatives may differ in this factor.
    """

    name: str
    values: Mapping[str, float]
    usual: str | None
    changes_labels: bool = True
    contrasts: bool = True


@dataclass(frozen=True, eq=False)
class Scene:
    """One slice.

    Args:
        image: Ideal intensities in the modality's units, float32, shape `(H, W)`.
        labels: Label map, uint8, shape `(H, W)`, 0 is background.
        facts: What is true of it.
    """

    image: FloatImage
    labels: LabelImage
    facts: Facts


class Anatomy(ABC):
    """A modality with its structures, the factors that vary, and how a scene is drawn and acquired."""

    name: ClassVar[str]
    structures: ClassVar[tuple[Structure, ...]]
    factors: ClassVar[tuple[Factor, ...]]

    @abstractmethod
    def draw(self, facts: Facts, streams: Streams, size_px: int) -> Scene:
        """Draw the ideal picture and its label map.

        Args:
            facts: A value for each factor; must be `valid`.
            streams: Source of everything that the facts leave open. The same streams with other facts give
                the same patient.
            size_px: Width and height.
        """

    @abstractmethod
    def acquire(self, scene: Scene, streams: Streams) -> LabelImage:
        """Return the picture as a scanner shows it: blurred, noisy, windowed, uint8, shape `(H, W)`."""

    def valid(self, facts: Facts) -> bool:
        """Whether the facts can hold together and can all be seen."""
        return True

    def applies(self, factor: str, facts: Facts) -> bool:
        """Whether the factor means anything beside the other facts (the kind of no lesion does not)."""
        return True

    def sample_facts(self, rng: np.random.Generator) -> Facts:
        """Draw a value for each factor, together valid."""
        while True:
            facts = {factor.name: _choose(rng, factor.values) for factor in self.factors}
            if self.valid(facts):
                return facts

    def contrast(self, facts: Facts, rng: np.random.Generator) -> tuple[str, Facts]:
        """Return the name of one factor and valid facts that differ from `facts` in that factor alone."""
        candidates = []
        for factor in self.factors:
            if not factor.contrasts or not self.applies(factor.name, facts):
                continue
            for value in factor.values:
                changed = {**facts, factor.name: value}
                if value != facts[factor.name] and self.valid(changed) and self.applies(factor.name, changed):
                    candidates.append((factor.name, changed))
        names = sorted({name for name, _ in candidates})  # every factor is as likely, however many values it has
        name = names[int(rng.integers(len(names)))]
        choices = [changed for candidate, changed in candidates if candidate == name]
        return name, choices[int(rng.integers(len(choices)))]

    def index_of(self, name: str) -> int:
        """Return the label of a structure.

        Raises:
            KeyError: If the modality has no structure of this name.
        """
        return _indices(self.structures)[name]


def _choose(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    """Draw a value by weight; plain Python, as numpy is slow on a handful of numbers."""
    rest = float(rng.random()) * sum(weights.values())
    for value, weight in weights.items():
        rest -= weight
        if rest < 0:
            return value
    return value


def _indices(structures: tuple[Structure, ...]) -> dict[str, int]:
    return {structure.name: structure.index for structure in structures}
