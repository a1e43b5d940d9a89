"""The scenes of the phantom: anatomy, contrasts, captions, and that all three say the same."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from data_modules.phantom.anatomy import Anatomy, Scene
from data_modules.phantom.captions import Language
from data_modules.phantom.concepts import CONCEPTS
from data_modules.phantom.geometry import Blob, coverage, make_grid, random_blob
from data_modules.phantom.items import MODALITIES, Item, ItemPlace, encode_label_map, make_item
from data_modules.phantom.randomness import Streams

ITEMS = 240
MODALITY_IDS = [anatomy.name for anatomy, _ in MODALITIES]
every_modality = pytest.mark.parametrize(("anatomy", "language"), MODALITIES, ids=MODALITY_IDS)


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return [make_item(ItemPlace(7, "test", index, ITEMS, 0.5), 128) for index in range(ITEMS)]


def of(items: list[Item], modality: str) -> list[Item]:
    chosen = [item for item in items if item.modality == modality]
    assert len(chosen) > ITEMS / 6  # the three modalities are about equally frequent
    return chosen


def anatomy_of(item: Item) -> Anatomy:
    return next(anatomy for anatomy, _ in MODALITIES if anatomy.name == item.modality)


def mask(item: Item, *names: str) -> np.ndarray:
    return np.isin(item.labels, [anatomy_of(item).index_of(name) for name in names])


def brightness(item: Item, *names: str) -> float:
    return float(item.image[mask(item, *names)].mean())


def centroid(region: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(region)
    return float(rows.mean()), float(columns.mean())


# --- geometry ---


def test_coverage_of_an_ellipse_has_its_area():
    grid = make_grid(128)
    cover = coverage(grid, Blob(0.1, -0.2, 0.5, 0.25, tilt_rad=0.7))
    assert cover.sum() * grid.pixel**2 == pytest.approx(np.pi * 0.5 * 0.25, rel=0.005)
    assert cover.min() == 0
    assert cover.max() == 1


def test_coverage_of_a_deformed_blob_agrees_with_the_boundary_equation():
    grid = make_grid(256)
    blob = random_blob(np.random.default_rng(3), 0.05, 0.1, 0.45, 0.3, tilt_rad=0.4, wobble=0.1)
    dx, dy = grid.x - blob.x, grid.y - blob.y
    across = (dx * np.cos(blob.tilt_rad) + dy * np.sin(blob.tilt_rad)) / blob.rx
    down = (dy * np.cos(blob.tilt_rad) - dx * np.sin(blob.tilt_rad)) / blob.ry
    angle = np.arctan2(down, across)
    boundary = 1 + sum((a * np.exp(-1j * (k + 2) * angle)).real for k, a in enumerate(blob.wobble))
    inside = np.hypot(across, down) < boundary
    wrong = (coverage(grid, blob) > 0.5) != inside
    assert inside.sum() > 1000
    assert wrong.sum() < 0.004 * inside.sum()  # pixels that the boundary cuts


@pytest.mark.parametrize("centre", [(2.5, 0.0), (-1.02, 0.9)])
def test_coverage_beyond_the_border_is_cut(centre: tuple[float, float]):
    cover = coverage(make_grid(64), Blob(*centre, 0.2, 0.2))
    assert cover.shape == (64, 64)
    assert cover.sum() < 200


def test_streams_are_independent_of_each_other_and_repeatable():
    streams = Streams((1, 2))
    first = streams("liver").random(4)
    np.testing.assert_array_equal(first, Streams((1, 2))("liver").random(4))
    assert not np.array_equal(first, streams("spleen").random(4))
    assert not np.array_equal(first, Streams((12,))("liver").random(4))


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


# --- laterality and zones ---


@pytest.mark.parametrize(
    ("modality", "image_left", "image_right"),
    [
        ("cardiac_mri", ("right ventricle",), ("left ventricle",)),
        ("cardiac_mri", ("right lung",), ("left lung",)),
        ("abdomen_ct", ("liver",), ("aorta",)),
        ("abdomen_ct", ("liver",), ("spleen",)),
        ("abdomen_ct", ("right kidney",), ("left kidney",)),
        ("abdomen_ct", ("inferior vena cava",), ("aorta",)),
        ("abdomen_ct", ("right renal cyst",), ("spine",)),
        ("abdomen_ct", ("spine",), ("left renal cyst",)),
        ("chest_xray", ("right lung", "right lung opacity"), ("heart",)),
        ("chest_xray", ("heart",), ("left lung", "left lung opacity", "left pleural effusion")),
        ("chest_xray", ("right lung opacity",), ("left lung",)),
        ("chest_xray", ("right lung",), ("left lung opacity",)),
        ("chest_xray", ("right pleural effusion",), ("left lung",)),
    ],
)
def test_the_patients_right_is_on_the_left(
    items: list[Item], modality: str, image_left: tuple[str, ...], image_right: tuple[str, ...]
):
    compared = 0
    for item in of(items, modality):
        left, right = mask(item, *image_left), mask(item, *image_right)
        if left.any() and right.any():
            assert centroid(left)[1] < centroid(right)[1], item.place.case_id
            compared += 1
    assert compared > 5


def test_opacities_lie_in_their_zone(items: list[Item]):
    compared = 0
    for item in of(items, "chest_xray"):
        for side in ("right", "left"):
            zone = item.facts[f"{side} opacity"]
            if zone == "absent":
                continue
            lung = mask(item, f"{side} lung", f"{side} lung opacity", f"{side} pleural effusion")
            rows = np.flatnonzero(lung.any(axis=1))
            place = (centroid(mask(item, f"{side} lung opacity"))[0] - rows[0]) / (rows[-1] - rows[0])
            low = ("upper", "middle", "lower").index(zone) / 3
            assert low - 0.06 < place < low + 1 / 3 + 0.06, (item.place.case_id, zone, place)
            compared += 1
    assert compared > 20


def test_scars_lie_in_their_wall(items: list[Item]):
    directions = {"anterior": (-1, 0), "inferior": (1, 0), "septal": (0, -1), "lateral": (0, 1)}
    compared = 0
    for item in of(items, "cardiac_mri"):
        if item.facts["scar"] in directions:
            heart = centroid(mask(item, "left ventricle", "myocardium", "myocardial scar"))
            offset = np.subtract(centroid(mask(item, "myocardial scar")), heart)
            assert np.dot(offset, directions[item.facts["scar"]]) > 0.7 * np.linalg.norm(offset)
            compared += 1
    assert compared > 15


def test_liver_lesions_lie_in_their_lobe(items: list[Item]):
    columns = {"right lobe": [], "left lobe": []}
    for item in of(items, "abdomen_ct"):
        if item.facts["liver lesion"] != "absent":
            columns[item.facts["liver lesion"]].append(centroid(mask(item, "liver lesion"))[1])
    assert max(columns["right lobe"]) < min(columns["left lobe"])


# --- intensities and sizes ---


def test_cardiac_contrast(items: list[Item]):
    for item in of(items, "cardiac_mri"):
        assert brightness(item, "left ventricle") > brightness(item, "myocardium") + 40
        assert brightness(item, "right ventricle") > brightness(item, "myocardium") + 40
        assert brightness(item, "subcutaneous fat") > brightness(item, "left lung") + 40
        if "myocardial scar" in item.areas_px and item.facts["wall"] != "thin":
            assert brightness(item, "myocardial scar") > brightness(item, "myocardium") + 15


def test_myocardium_surrounds_the_cavity(items: list[Item]):
    for item in of(items, "cardiac_mri"):
        cavity = mask(item, "left ventricle")
        rows, columns = np.nonzero(cavity)
        muscle = mask(item, "myocardium", "myocardial scar")
        row, column = (round(value) for value in centroid(cavity))
        assert muscle[row, columns.max() :].any()
        assert muscle[rows.max() :, column].any()
        if item.facts["level"] != "basal":  # there the outflow tract opens the ring in front
            assert muscle[row, : columns.min()].any()
            assert muscle[: rows.min(), column].any()


def test_cavity_is_smaller_in_systole_and_larger_when_dilated():
    anatomy, _ = MODALITIES[0]
    streams = Streams((5,))
    facts = anatomy.sample_facts(np.random.default_rng(0)) | {"septum": "round", "level": "mid-ventricular"}

    def area(**changes: str) -> int:
        scene = anatomy.draw(facts | {"phase": "end-diastole", "left ventricle": "normal"} | changes, streams, 128)
        return int((scene.labels == anatomy.index_of("left ventricle")).sum())

    assert area(phase="end-systole") < 0.5 * area()
    assert area(**{"left ventricle": "dilated"}) > 1.6 * area()


def test_abdominal_attenuation():
    anatomy, _ = MODALITIES[1]
    for seed in range(12):
        facts = anatomy.sample_facts(np.random.default_rng(seed))
        scene = anatomy.draw(facts, Streams((seed,)), 128)

        def hu(name: str, scene: Scene = scene) -> float:
            return float(np.median(scene.image[scene.labels == anatomy.index_of(name)]))

        assert hu("spine") > 150
        assert hu("liver") > hu("subcutaneous fat") + 60
        assert -130 < hu("subcutaneous fat") < -80
        assert {"non-contrast": 20, "portal venous": 130, "arterial": 280}[facts["contrast"]] < hu("aorta")
        if facts["liver lesion"] != "absent":
            assert hu("liver lesion") < hu("liver") - 30
        if facts["gallbladder"] == "normal":
            assert -10 < hu("gallbladder") < 25
        if facts["ascites"] == "present":
            assert 0 < hu("ascites") < 30
        assert scene.image[0, 0] < -900


def test_chest_contrast(items: list[Item]):
    for item in of(items, "chest_xray"):
        assert brightness(item, "left lung") < brightness(item, "heart") - 30
        assert brightness(item, "right lung") < brightness(item, "heart") - 30
        for side in ("right", "left"):
            if f"{side} lung opacity" in item.areas_px:
                assert brightness(item, f"{side} lung opacity") > brightness(item, f"{side} lung") + 8
            if f"{side} pleural effusion" in item.areas_px:
                assert brightness(item, f"{side} pleural effusion") > brightness(item, f"{side} lung") + 30


def test_an_enlarged_heart_is_wider(items: list[Item]):
    widths = {"normal": [], "enlarged": []}
    for item in of(items, "chest_xray"):
        columns = np.flatnonzero(mask(item, "heart").any(axis=0))
        widths[item.facts["heart"]].append(columns[-1] - columns[0])
    assert max(widths["normal"]) < min(widths["enlarged"])


def test_noise_is_visible(items: list[Item]):
    for name in MODALITY_IDS:
        spread = {"noise": [], "none": []}
        for item in of(items, name):
            if item.facts["artefact"] in spread:
                rough = np.abs(np.diff(item.image.astype(float), axis=1))
                spread[item.facts["artefact"]].append(np.median(rough[item.labels[:, 1:] > 0]))
        assert np.median(spread["noise"]) > 2 * np.median(spread["none"])


@pytest.mark.parametrize("size_px", [32, 96, 224])
@every_modality
def test_a_scene_is_the_same_at_every_size(anatomy: Anatomy, language: Language, size_px: int):
    facts = anatomy.sample_facts(np.random.default_rng(1))
    scene = anatomy.draw(facts, Streams((1,)), size_px)
    reference = anatomy.draw(facts, Streams((1,)), 128)
    image = anatomy.acquire(scene, Streams((2,)))
    assert image.shape == scene.labels.shape == scene.image.shape == (size_px, size_px)
    assert image.dtype == scene.labels.dtype == np.uint8
    for structure in anatomy.structures:
        share = (scene.labels == structure.index).mean()
        expected = (reference.labels == structure.index).mean()
        assert share == pytest.approx(expected, rel=0.25, abs=0.006)


def test_label_map_survives_its_file(items: list[Item]):
    with Image.open(io.BytesIO(encode_label_map(items[0].labels))) as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), items[0].labels)


@every_modality
def test_every_contrast_can_be_seen(anatomy: Anatomy, language: Language):
    """With the same patient and the same noise, the pictures differ plainly in some dozens of pixels."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        facts = anatomy.sample_facts(rng) | {"artefact": "none"}
        name, changed = anatomy.contrast(facts, rng)
        first, second = (
            anatomy.acquire(anatomy.draw(f, Streams((seed,)), 128), Streams((seed,))) for f in (facts, changed)
        )
        difference = ndimage.uniform_filter(first.astype(float) - second, 3)
        assert (np.abs(difference) > 12).sum() > 30, (name, facts[name], changed[name])
