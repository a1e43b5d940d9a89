"""A caption taken apart into the phrases that name one thing each. No annotation, no language model."""

import re

# "a, b and c", sentences, clauses, and the verbs by which radiology captions introduce what is seen
_SEPARATOR = re.compile(
    r"[.;:,](?:\s+|$)|\s+and\s+|\s+(?:showing|shows?|demonstrat(?:ing|es?)|reveal(?:ing|s)?|depict(?:ing|s)?)\s+",
    flags=re.IGNORECASE,
)
# what such a verb or colon leaves behind: "The image also", "Further findings", "Note"
_EMPTY_TALK = re.compile(
    r"(?:the\s+image|it|there|this)?\s*(?:is|are|also|note|additionally|further(?:more)?|findings?|seen|in\s+addition)*",
    flags=re.IGNORECASE,
)


def split_phrases(caption: str) -> list[str]:
    """Split a caption at punctuation, at "and", and at verbs of showing.

    "Axial CT showing a large liver, ascites and no spleen." becomes "Axial CT", "a large liver", "ascites",
    "no spleen". Decimal points and hyphens stay. Phrases are told apart by their words as they stand.

    Args:
        caption: One caption.

    Returns:
        The phrases in their order, repeated ones once; the whole caption if nothing else is left.
    """
    parts = (_without_lead(part) for part in _SEPARATOR.split(caption.strip()))
    found = dict.fromkeys(part for part in parts if part)
    return list(found) or [caption.strip()]


def _without_lead(part: str) -> str:
    part = part.strip()
    if _EMPTY_TALK.fullmatch(part):
        return ""
    return re.sub(r"^(?:note|additionally)\s+", "", part, flags=re.IGNORECASE)
