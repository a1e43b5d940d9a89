"""Rules for image-text pairs: captions that are empty, repeated, too long, or in other letters."""

import re
from collections.abc import Iterator

from data_modules.check.checked import Checked, Rule, about, groups, plural, where
from data_modules.check.findings import Finding
from data_modules.check.reading import CaseFacts
from data_modules.pairs import ImageTextRecord

# A tokenizer makes at least one token of a word or a mark, and two more stand for beginning and end.
CLIP_WORDS, LONG_WORDS = 77 - 2, 256 - 2
_WORD_OR_MARK = re.compile(r"\w+|[^\w\s]")


def captions_are_not_empty(checked: Checked) -> Iterator[Finding]:
    """A pair without text teaches nothing."""
    empty = [facts for facts, text in _captions(checked.facts) if not text]
    if empty:
        stops = getattr(checked.module, "empty_caption", "skip") == "error"
        advice = "fill them, or leave them out with empty_caption=skip" if stops else "left out"
        message = f"{plural(len(empty), 'caption')} without text ({advice})"
        yield about("error" if stops else "warning", "caption_empty", message, empty)


def captions_differ(checked: Checked) -> Iterator[Finding]:
    """Pairs with one caption are false negatives of each other; across splits the text was seen in training."""
    texts = groups((facts for facts, text in _captions(checked.facts) if text), _text)
    repeated = [same for same in texts.values() if len(same) > 1]
    across = [same for same in repeated if len({facts.split for facts in same}) > 1]
    within = [same for same in repeated if len({facts.split for facts in same}) == 1]
    for found, code, place in (
        (across, "caption_across_splits", "recur in another split"),
        (within, "caption_repeated", "recur within a split; duplicate_texts=ignore keeps them out of the negatives"),
    ):
        if found:
            cases = [facts for same in found for facts in same]
            yield Finding(
                "warning",
                code,
                f"{plural(len(found), 'caption')} of {plural(len(cases), 'pair')} {place}",
                tuple(facts.case_id for facts in cases),
                tuple(" = ".join(map(where, same)) for same in found),
            )


def captions_fit_the_tokenizer(checked: Checked) -> Iterator[Finding]:
    """What is beyond the context of the text tower is cut off."""
    counts = [(facts, len(_WORD_OR_MARK.findall(text))) for facts, text in _captions(checked.facts)]
    over_clip = [facts for facts, count in counts if count > CLIP_WORDS]
    over_all = [facts for facts, count in counts if count > LONG_WORDS]
    if over_all:
        message = (
            f"{plural(len(over_all), 'caption')} longer than {LONG_WORDS} words and marks: even 256 tokens "
            f"(BiomedCLIP) cut them off; the longest has {max(count for _, count in counts):,}"
        )
        yield about("warning", "caption_too_long", message, over_all)
    if over_clip:
        message = (
            f"{len(over_clip):,} of {plural(len(counts), 'caption')} longer than {CLIP_WORDS} words and marks: "
            "77 tokens (CLIP) cut them off"
        )
        yield about("info", "caption_long", message, over_clip)


def captions_are_in_plain_letters(checked: Checked) -> Iterator[Finding]:
    """Letters beyond ASCII are lawful; a large share may be a wrong decoding."""
    texts = _captions(checked.facts)
    other = [facts for facts, text in texts if not text.isascii()]
    broken = [facts for facts, text in texts if "\ufffd" in text]
    if other:
        share = 100 * len(other) / len(texts)
        message = f"{len(other):,} of {plural(len(texts), 'caption')} ({share:.1f} %) hold letters beyond ASCII"
        yield about("info", "caption_not_ascii", message, other)
    if broken:
        message = f"{plural(len(broken), 'caption')} with replacement characters: the text was decoded wrongly once"
        yield about("warning", "caption_broken", message, broken)


def _captions(facts: list[CaseFacts]) -> list[tuple[CaseFacts, str]]:
    return [(one, one.case.caption) for one in facts if isinstance(one.case, ImageTextRecord)]


def _text(facts: CaseFacts) -> str:
    return facts.case.caption if isinstance(facts.case, ImageTextRecord) else ""


RULES: tuple[Rule, ...] = (
    captions_are_not_empty,
    captions_differ,
    captions_fit_the_tokenizer,
    captions_are_in_plain_letters,
)
