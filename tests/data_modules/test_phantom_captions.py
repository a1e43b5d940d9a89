"""What the phantom says: that it is true, varied, and differs in one phrase where scenes differ in one fact."""

import numpy as np

from data_modules.phantom.anatomy import Anatomy
from data_modules.phantom.captions import Language
from data_modules.phantom.concepts import CONCEPTS
from data_modules.phantom.items import Item
from tests.helpers.phantom_items import anatomy_of, every_modality

# --- tables ---


@every_modality
def test_every_unusual_value_can_be_said_and_names_known_things(anatomy: Anatomy, language: Language):
    names = {structure.name for structure in anatomy.structures}
    assert len({structure.index for structure in anatomy.structures}) == len(names)
    assert {s.part_of for s in anatomy.structures} <= names | {None}
    for factor in anatomy.factors:
        tables = (language.qualifiers, language.findings, language.words)
        said = {value for table in tables for value in table.get(factor.name, {})}
        assert said <= set(factor.values)
        assert set(factor.values) - said <= {factor.usual}
        assert factor.usual in {None, *factor.values}
    findings = [finding for table in language.findings.values() for finding in table.values()]
    for finding in findings:
        assert len(set(finding.phrases)) == len(finding.phrases) > 0
        assert {*finding.shows, *finding.lacks} <= names
    assert {concept for finding in findings for concept in finding.concepts} <= CONCEPTS.keys()
    assert set(language.concepts) <= CONCEPTS.keys()


@every_modality
def test_no_phrase_stands_for_two_values(anatomy: Anatomy, language: Language):
    for name, table in language.findings.items():
        phrases = [phrase for finding in table.values() for phrase in finding.phrases]
        assert len(phrases) == len(set(phrases)), name


@every_modality
def test_contrast_changes_one_fact_and_stays_valid(anatomy: Anatomy, language: Language):
    seen = set()
    for seed in range(150):
        rng = np.random.default_rng(seed)
        facts = anatomy.sample_facts(rng)
        name, changed = anatomy.contrast(facts, rng)
        assert [key for key in facts if facts[key] != changed[key]] == [name]
        assert anatomy.valid(changed)
        seen.add(name)
    assert seen == {factor.name for factor in anatomy.factors if factor.contrasts}


# --- captions and label maps ---


def test_structures_named_as_visible_are_in_the_label_map(items: list[Item]):
    named = [(item, name) for item in items for name in item.caption.shows]
    assert len(named) > 2 * len(items)
    areas = [(item.areas_px.get(name, 0), name, item.place.case_id) for item, name in named]
    assert min(areas) >= (10,)


def test_structures_named_as_absent_are_not_in_the_label_map(items: list[Item]):
    named = [(item, name) for item in items for name in item.caption.lacks]
    assert len(named) > len(items) / 3
    assert [(item.place.case_id, name) for item, name in named if name in item.areas_px] == []


def test_captions_read_like_sentences(items: list[Item]):
    for item in items:
        text = item.caption.text
        assert text[0].isupper()
        assert text.endswith(".")
        assert not any(wrong in text for wrong in ("  ", " .", " ,", "{", "}", "\t", "\n", ". .", " a an "))
    assert np.percentile([len(item.caption.text.split()) for item in items], 95) < 60


def test_captions_are_varied(items: list[Item]):
    assert len({item.caption.text for item in items}) > 0.97 * len(items)
    openings = {item.caption.text.split(" ", 4)[0] for item in items}
    assert len(openings) > 12
    meanings = {(i.modality, tuple((name, i.facts[name]) for name in i.caption.said)) for i in items}
    assert len(meanings) > 0.95 * len(items)


def test_unusual_facts_are_always_said(items: list[Item]):
    for item in items:
        anatomy = anatomy_of(item)
        for factor in anatomy.factors:
            if item.facts[factor.name] != factor.usual and anatomy.applies(factor.name, item.facts):
                assert factor.name in item.caption.said


# --- hard negatives ---


def pairs_of(items: list[Item]) -> list[tuple[Item, Item]]:
    pairs = [(a, b) for a, b in zip(items[::2], items[1::2], strict=True) if a.place.paired]
    assert len(pairs) == len(items) // 4  # half of the items
    return pairs


def test_pairs_differ_in_one_fact_and_captions_in_its_phrase(items: list[Item]):
    for first, second in pairs_of(items):
        assert first.place.group_id == second.place.group_id
        assert first.modality == second.modality
        changed = [name for name in first.facts if first.facts[name] != second.facts[name]]
        assert changed == [first.contrast] == [second.contrast]
        assert first.caption.text != second.caption.text
        assert first.contrast in first.caption.said
        # The kind of an opacity is said within the phrase of the opacity, and only if there is one.
        assert set(first.caption.said) ^ set(second.caption.said) <= {"opacity kind"}
        common = set(first.caption.text.split()) & set(second.caption.text.split())
        assert len(common) > 0.5 * len(set(first.caption.text.split()))


def test_pairs_have_label_maps_that_differ_where_the_fact_says(items: list[Item]):
    unchanged = 0
    for first, second in pairs_of(items):
        factor = next(f for f in anatomy_of(first).factors if f.name == first.contrast)
        differing = first.labels != second.labels
        filled = {first.facts[factor.name], second.facts[factor.name]} == {"fluid-filled", "gas-filled"}
        if factor.changes_labels and not filled:
            assert differing.sum() >= 8, (first.place.case_id, first.contrast)
        else:
            assert not differing.any()
            unchanged += 1
        named = set(first.caption.shows) ^ set(second.caption.shows)
        appeared = set(first.areas_px) ^ set(second.areas_px)
        assert named & appeared == {n for n in named if (n in first.areas_px) != (n in second.areas_px)}
        assert differing.mean() < 0.4  # one patient, not two
    assert unchanged < len(pairs_of(items)) / 3


def test_members_of_a_pair_are_two_acquisitions(items: list[Item]):
    for first, second in pairs_of(items):
        same = first.labels == second.labels
        assert (first.image[same] != second.image[same]).mean() > 0.05
