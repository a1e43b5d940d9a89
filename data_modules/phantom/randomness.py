"""Random streams by name, so that changing one fact of a scene leaves every other draw as it was."""

import hashlib
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.random import SeedSequence
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import DTypeLike, NDArray


class _DigestSeed(ISeedSequence):
    """The state of a generator from a hash: as good as numpy's seed sequence and several times as fast."""

    def __init__(self, text: str) -> None:
        self.text = text

    def generate_state(self, n_words: int, dtype: DTypeLike = np.uint32) -> NDArray[np.uint32 | np.uint64]:
        size = n_words * np.dtype(dtype).itemsize
        return np.frombuffer(hashlib.blake2b(self.text.encode(), digest_size=size).digest(), dtype)


@dataclass(frozen=True)
class Streams:
    """A family of independent generators, one a name.

    A single generator would couple the structures: a scene without a gallbladder would draw fewer numbers,
    and everything drawn after it would move. Two scenes of one family that differ in one fact therefore share
    the rest of their anatomy, which is what makes them hard negatives of each other.

    Args:
        words: Integers that seed the family, e.g. `(seed, split, item)`.
    """

    words: tuple[int, ...]

    def __call__(self, name: str) -> np.random.Generator:
        """Return the generator of `name`, in its initial state."""
        seed = cast(SeedSequence, _DigestSeed(f"{self.words} {name}"))  # the stubs omit the abstract base
        return np.random.Generator(np.random.PCG64(seed))


@dataclass(frozen=True)
class SliceStreams(Streams):
    """The streams of one slice of a volume: what varies from slice to slice is its own, the rest is shared.

    Args:
        place: Which slice.
        own: Names of the generators that every slice has for itself, such as that of the noise.
    """

    place: int = 0
    own: frozenset[str] = frozenset({"noise"})

    def __call__(self, name: str) -> np.random.Generator:
        """Return the generator of `name`, in its initial state."""
        return super().__call__(f"{name} {self.place}" if name in self.own else name)
