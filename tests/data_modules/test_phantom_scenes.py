"""The scenes of the phantom: where structures lie and how they look."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from data_modules.phantom.anatomy import Anatomy, Scene
from data_modules.phantom.captions import Language
from data_modules.phantom.items import MODALITIES, Item, encode_label_map
from data_modules.phantom.randomness import Streams
from tests.helpers.phantom_items import brightness, centroid, every_modality, mask, of

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
    for name in [anatomy.name for anatomy, _ in MODALITIES]:
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
