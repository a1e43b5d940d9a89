"""The lines of ROCO v1's text files for one item."""

import re

from data_modules.phantom.concepts import CONCEPTS
from data_modules.phantom.items import Item

TEXT_FILES = ("captions.txt", "keywords.txt", "cuis.txt", "semtypes.txt", "dlinks.txt", "licences.txt")
LICENCES_HEADER = "ROCO_ID,PMC_ID,CC\n"

_STOPWORDS = frozenset({
    "a", "additionally", "also", "an", "and", "around", "at", "below", "demonstrating", "depicting",
    "findings", "further", "in", "is", "it", "its", "no", "note", "of", "on", "only", "or", "out",
    "revealing", "seen", "showing", "shows", "the", "through", "to", "with", "without",
})  # fmt: skip


def item_texts(item: Item) -> dict[str, str]:
    """Return the item's line of each of `TEXT_FILES`, with its newline.

    ROCO's peculiarities are kept: a space before each caption, an empty second field in the lists. Where ROCO
    names the article of a figure, this names the patient, which the members of a pair share.
    """
    case_id, place = item.place.case_id, item.place
    concepts = [CONCEPTS[name] for name in item.caption.concepts]
    words = re.findall(r"[a-z][a-z-]+", item.caption.text.lower())
    keywords = dict.fromkeys(word for word in words if word not in _STOPWORDS)
    types = [part for kind in dict.fromkeys(kind for _, kind in concepts) for part in kind]
    source = f"PHANTOM{int(place.group_id.removeprefix('ROCO_')):07d}_{item.modality}-{case_id}.jpg"
    return {
        "captions.txt": f"{case_id}\t {item.caption.text}\n",
        "keywords.txt": _row(case_id, list(keywords)),
        "cuis.txt": _row(case_id, [cui for cui, _ in concepts]),
        "semtypes.txt": _row(case_id, types),
        "dlinks.txt": f"{case_id}\tmedzeroseg phantom --seed {place.seed}\t{source}\n",
        "licences.txt": f"{case_id},{source},CC0\n",
    }


def _row(case_id: str, values: list[str]) -> str:
    return "\t".join([case_id, "", *values]) + "\n"
