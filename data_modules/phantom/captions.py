"""Captions that say what can be seen: phrase tables in, one English caption out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from data_modules.phantom.anatomy import Anatomy, Facts
from data_modules.phantom.randomness import Streams

DETAIL = {"brief": 0.05, "usual": 0.20, "full": 0.45}
"""Probability with which a caption of each level of detail says something that is as usual."""

_CONNECTORS = (" showing ", " demonstrating ", " with ", " revealing ", " depicting ", ": ")
_CONTINUATIONS = (
    "The image also shows ",
    "Also seen: ",
    "Further findings: ",
    "Note ",
    "Additionally, ",
    "It also shows ",
)
_MOST_SAID = 6  # beyond this only what must be said: text encoders read 77 tokens
_FIRST_SENTENCE = 0.6  # share of the findings that go into the opening sentence


@dataclass(frozen=True)
class Finding:
    """How a value of a factor is said.

    Args:
        phrases: Noun phrases, any of which says it.
        shows: Structures that the phrase names as visible; each is in the label map.
        lacks: Structures that the phrase names as absent; none is in the label map.
        concepts: Names of the diseases or signs meant, keys of the concept table.
    """

    phrases: tuple[str, ...]
    shows: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    concepts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Qualifier:
    """How a value of a factor is said in the opening.

    Args:
        before: Adjectives that precede the view, each with its trailing space.
        after: Phrases that follow it, each with its leading space.
    """

    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class Language:
    """The phrase tables of a modality.

    Args:
        views: Names of the view, which open the caption.
        qualifiers: By factor and value, said within the opening.
        findings: By factor and value, said as a list of noun phrases; `{factor}` in a phrase stands for the
            words of that factor.
        words: By factor and value, noun phrases to put into other phrases.
        concepts: Concepts that every caption of the modality has.
    """

    views: tuple[str, ...]
    qualifiers: Mapping[str, Mapping[str, Qualifier]]
    findings: Mapping[str, Mapping[str, Finding]]
    words: Mapping[str, Mapping[str, tuple[str, ...]]]
    concepts: tuple[str, ...]


@dataclass(frozen=True)
class Caption:
    """A caption and what it claims.

    Args:
        text: One line of English.
        said: Factors whose value it states.
        shows: Structures that it names as visible.
        lacks: Structures that it names as absent.
        concepts: Keys of the concept table.
    """

    text: str
    said: tuple[str, ...]
    shows: tuple[str, ...]
    lacks: tuple[str, ...]
    concepts: tuple[str, ...]


def write_caption(
    language: Language, anatomy: Anatomy, facts: Facts, streams: Streams, must_say: tuple[str, ...] = ()
) -> Caption:
    """Write a caption.

    Whatever departs from the usual is always said, the usual only now and then. Wording, order and sentence
    are drawn for each factor whether it is said or not: with the same streams, two scenes that differ in one
    factor get captions that differ in its phrase.

    Args:
        language: Phrase tables of the modality.
        anatomy: The modality.
        facts: What is true of the scene.
        streams: Source of all choices.
        must_say: Factors whose value is said even when it is the usual one.
    """
    form = streams("form").random(4)
    detail = tuple(DETAIL.values())[int(form[0] * len(DETAIL))]
    draws = streams("say").random((len(anatomy.factors), 4))
    words = {
        factor.name: _pick(language.words[factor.name][facts[factor.name]], draw[3])
        for factor, draw in zip(anatomy.factors, draws, strict=True)
        if factor.name in language.words
    }
    prefix = ""
    suffixes: list[tuple[float, str]] = []
    listed: list[tuple[float, str]] = []
    said: list[str] = []
    findings: list[Finding] = []
    chances = dict(zip((factor.name for factor in anatomy.factors), draws[:, 0].tolist(), strict=True))
    to_say = _choose_factors(language, anatomy, facts, must_say, chances, detail)
    for factor, (_, wording, order, _) in zip(anatomy.factors, draws, strict=True):
        value = facts[factor.name]
        if factor.name not in to_say:
            continue
        qualifier = language.qualifiers.get(factor.name, {}).get(value)
        finding = language.findings.get(factor.name, {}).get(value)
        if qualifier is not None:
            if qualifier.before and not prefix and order < 0.5:
                prefix = _pick(qualifier.before, wording)
            else:
                suffixes.append((order, _pick(qualifier.after, wording)))
        elif finding is not None:
            listed.append((order, _pick(finding.phrases, wording).format_map(words)))
            findings.append(finding)
        elif factor.name not in words:
            continue
        said.append(factor.name)
    opening = prefix + _pick(language.views, form[1]) + "".join(phrase for _, phrase in sorted(suffixes))
    first = [phrase for order, phrase in sorted(listed) if order < _FIRST_SENTENCE]
    second = [phrase for order, phrase in sorted(listed) if order >= _FIRST_SENTENCE]
    if not first:
        first, second = second, []
    text = opening + (_pick(_CONNECTORS, form[2]) + _join(first) if first else "") + "."
    if second:
        text += " " + _pick(_CONTINUATIONS, form[3]) + _join(second) + "."
    return Caption(
        text[0].upper() + text[1:],
        tuple(said),
        _unique(name for finding in findings for name in finding.shows),
        _unique(name for finding in findings for name in finding.lacks),
        _unique((*language.concepts, *(name for finding in findings for name in finding.concepts))),
    )


def _choose_factors(
    language: Language,
    anatomy: Anatomy,
    facts: Facts,
    must_say: tuple[str, ...],
    chances: Mapping[str, float],
    detail: float,
) -> set[str]:
    """Return the factors to say: all that departs from the usual, some of the rest while there is room."""
    applicable = [factor for factor in anatomy.factors if anatomy.applies(factor.name, facts)]
    needed = {f.name for f in applicable if facts[f.name] != f.usual or f.name in must_say}
    optional = sorted((chances[f.name], f.name) for f in applicable if f.name not in needed)
    room = max(0, _MOST_SAID - len(needed - language.words.keys()))
    return needed | {name for chance, name in optional[:room] if chance < detail}


def _pick(options: tuple[str, ...], u: float) -> str:
    return options[int(u * len(options))]


def _join(phrases: list[str]) -> str:
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
