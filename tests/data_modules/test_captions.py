"""The captions' facts, on label maps whose truth is known by construction."""

import random
import re

import numpy as np
import pytest

from data_modules.captions_cardiac import cardiac_caption, cardiac_facts
from data_modules.captions_chest import chest_caption, chest_facts, split_lungs
from data_modules.captions_ct import ct_caption, ct_facts
from data_modules.label_measures import bucket, centre, direction, enumerate_words
from tests.helpers.fake_data import heart_label


def rectangle(rows: slice, columns: slice, size: int = 100) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[rows, columns] = True
    return mask


def test_bucket_puts_a_limit_into_the_interval_above():
    assert [bucket(v, (1, 2), ("a", "b", "c")) for v in (0.9, 1, 1.9, 2, 9)] == ["a", "b", "b", "c", "c"]
    with pytest.raises(ValueError, match="words"):
        bucket(1, (1, 2), ("a", "b"))


def test_centre_is_symmetric():
    assert centre(np.ones((4, 7), bool)) == (0.5, 0.5)
    assert centre(rectangle(slice(0, 10), slice(90, 100))) == pytest.approx((0.05, 0.95))


@pytest.mark.parametrize(
    ("down", "right", "words"),
    [
        (0, 0, ""),
        (0.5, 0, "below"),
        (-0.5, 0, "above"),
        (0, -0.5, "to the left of"),
        (-0.5, 0.5, "above and to the right of"),
    ],
)
def test_direction(down: float, right: float, words: str):
    assert direction(down, right, 0.1) == words


def test_enumerate_words():
    assert [enumerate_words(list("abcd")[:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]


class TestCardiac:
    def facts(self, label: np.ndarray, **options: object):
        facts = cardiac_facts(label, **options)  # type: ignore[arg-type]
        assert facts is not None
        return facts

    def test_all_three_structures(self):
        facts = self.facts(heart_label((100, 100), 8.0), phase="end-systole", level="basal")
        assert facts.structures == ("left ventricle", "myocardium", "right ventricle")
        assert (facts.phase, facts.level) == ("end-systole", "basal")
        assert facts.right_side == "to the left of"
        assert facts.closed

    def test_only_what_is_outlined_is_named(self):
        label = heart_label((100, 100), 8.0)
        label[label == 1] = 0
        assert self.facts(label).structures == ("left ventricle", "myocardium")
        assert self.facts(np.where(label == 3, 3, 0)).structures == ("left ventricle",)
        assert cardiac_facts(np.zeros((5, 5), np.uint8)) is None
        only_right = np.zeros((10, 10), np.uint8)
        only_right[2:4, 2:4] = 1
        facts = self.facts(only_right)
        assert facts.structures == ("right ventricle",)
        assert (facts.cavity, facts.wall, facts.right_ventricle, facts.place) == (None, None, None, None)

    def test_a_larger_cavity_is_called_larger(self):
        order = ["very small", "small", "medium-sized", "large", "very large"]
        words = [self.facts(heart_label((100, 100), radius)).cavity for radius in (3, 4.5, 6, 8, 12)]
        assert words == order

    def test_a_thicker_wall_is_called_thicker_whatever_the_scale(self):
        words = ["thin", "moderately thick", "thick", "very thick"]
        for scale in (1, 2):
            # wall / outer radius is 0.15, 0.27, 0.38, 0.52
            measured = [
                self.facts(heart_label((200, 200), scale * r, thickness=scale * t)).wall
                for r, t in ((17, 3), (16, 6), (15, 9.2), (12, 13))
            ]
            assert measured == words

    def test_a_gap_in_the_wall_opens_the_ring(self):
        label = heart_label((100, 100), 8.0, right=False)
        assert self.facts(label).closed
        label[48:52, 58:] = 0
        assert self.facts(label).closed is False

    def test_right_ventricle_is_compared_and_located(self):
        label = heart_label((100, 100), 8.0, right=False)
        label[20:24, 48:52] = 1  # 16 of about 200 pixels, straight above
        facts = self.facts(label)
        assert facts.right_ventricle == "much smaller than"
        assert facts.right_side == "above"
        assert self.facts(np.flipud(label)).right_side == "below"

    def test_place_is_the_left_ventricles(self):
        label = heart_label((100, 100), 8.0)
        assert self.facts(label).place == ""
        assert self.facts(np.roll(label, (-10, 8), (0, 1))).place == "above and to the right of"

    def test_an_unlabelled_right_ventricle_is_not_called_absent(self):
        label = heart_label((100, 100), 8.0, right=False)
        for seed in range(20):
            said = cardiac_caption(self.facts(label), random.Random(seed))
            unsaid = cardiac_caption(self.facts(label, right_ventricle_labelled=False), random.Random(seed))
            assert re.search(r"\bRV\b|right ventric", said)
            assert not re.search(r"\bRV\b|right ventric", unsaid)

    def test_every_phrasing_states_the_facts(self):
        facts = self.facts(heart_label((100, 100), 8.0), phase="end-diastole", level="apical")
        captions = {cardiac_caption(facts, random.Random(seed)) for seed in range(60)}
        assert len(captions) > 30
        for caption in captions:
            for fact in ("end-diastole", "apical", "large", "thick", "closed ring", "to the left of"):
                assert fact in caption.replace("closed myocardial ring", "closed ring")
            assert caption.endswith(".")
            assert "  " not in caption
            assert "None" not in caption
            assert len(caption.split()) < 70

    def test_the_same_seed_gives_the_same_words(self):
        facts = self.facts(heart_label((100, 100), 8.0))
        assert cardiac_caption(facts, random.Random(3)) == cardiac_caption(facts, random.Random(3))


RIGHT = rectangle(slice(20, 80), slice(15, 45))  # the patient's right lung is on the left of the image
LEFT = rectangle(slice(20, 80), slice(55, 85))


class TestChest:
    def facts(self, infection: np.ndarray | None, diagnosis: str = "COVID-19", lungs: np.ndarray = RIGHT | LEFT):
        facts = chest_facts(diagnosis, lungs, infection)  # type: ignore[arg-type]
        assert facts is not None
        return facts

    def test_the_patients_right_lung_is_on_the_left_of_the_image(self):
        right, left = split_lungs(RIGHT | LEFT)
        assert (right == RIGHT).all()
        assert (left == LEFT).all()

    def test_touching_lungs_are_parted_and_crumbs_go_to_the_nearer_lung(self):
        bridge = rectangle(slice(40, 42), slice(40, 60))
        right, left = split_lungs(RIGHT | LEFT | bridge)
        assert (right & RIGHT).sum() == RIGHT.sum()
        assert (left & LEFT).sum() == LEFT.sum()
        crumb = rectangle(slice(90, 92), slice(80, 82))
        assert split_lungs(RIGHT | LEFT | crumb)[1][91, 81]

    def test_sides(self):
        assert self.facts(RIGHT).side == "the right lung only"
        assert self.facts(LEFT).side == "the left lung only"
        assert self.facts(RIGHT | LEFT).side == "both lungs"
        quarter = LEFT & rectangle(slice(20, 35), slice(0, 100))
        assert self.facts(RIGHT | quarter).side == "both lungs, more in the right one"

    def test_zones_are_thirds_of_the_lungs(self):
        for zone, rows in (("upper", slice(20, 40)), ("middle", slice(40, 60)), ("lower", slice(60, 80))):
            assert self.facts((RIGHT | LEFT) & rectangle(rows, slice(0, 100))).zones == (zone,)
        assert self.facts(RIGHT | LEFT).zones == ("upper", "middle", "lower")

    @pytest.mark.parametrize(
        ("rows", "words"),
        [(3, "less than 10 percent"), (6, "10 to 25 percent"), (30, "50 to 75 percent"), (60, "nearly all")],
    )
    def test_extent_is_the_share_of_the_lungs(self, rows: int, words: str):
        infection = rectangle(slice(20, 20 + rows), slice(0, 100))  # outside the lungs does not count
        assert self.facts(infection).extent == words

    def test_an_empty_mask_says_nothing_of_an_infection(self):
        empty = np.zeros_like(RIGHT)
        for diagnosis in ("Non-COVID", "Normal", "COVID-19"):
            facts = self.facts(empty, diagnosis)
            assert (facts.extent, facts.side, facts.zones) == (None, None, ())

    def test_lung_size_balance_shape_and_place(self):
        facts = self.facts(None, "Normal")
        assert facts.lungs == "very large"  # 36 % of the image
        assert facts.balance == "Both lung fields are about equally large."
        assert facts.shape == "wider than high"
        assert facts.place == ""
        narrow = rectangle(slice(0, 60), slice(70, 80)) | rectangle(slice(0, 60), slice(85, 90))
        facts = self.facts(None, "Normal", narrow)
        assert facts.lungs == "very small"
        assert facts.balance == "The right lung field is clearly larger than the left one."
        assert facts.shape == "higher than wide"
        assert facts.place == "above and to the right of"

    def test_no_facts_without_two_lungs(self):
        assert chest_facts("Normal", np.zeros((9, 9), bool), None) is None

    @pytest.mark.parametrize("diagnosis", ["COVID-19", "Non-COVID", "Normal"])
    def test_every_phrasing_states_the_class_and_nothing_of_another(self, diagnosis: str):
        facts = self.facts(RIGHT, diagnosis)
        captions = {chest_caption(facts, random.Random(seed)) for seed in range(40)}
        assert len(captions) > 15
        for caption in captions:
            assert ("COVID-19" in caption.replace("other than COVID-19", "")) == (diagnosis == "COVID-19")
            assert bool(re.search("non-COVID|other than COVID", caption)) == (diagnosis == "Non-COVID")
            assert bool(re.search("normal|healthy|without lung infection", caption)) == (diagnosis == "Normal")
            assert ("right lung only" in caption) == (diagnosis == "COVID-19")


class TestCt:
    def test_organs_are_named_largest_first_and_crumbs_are_not(self):
        masks = {
            "liver": rectangle(slice(0, 30), slice(0, 30)),
            "spleen": rectangle(slice(0, 9), slice(0, 9)),
            "aorta": rectangle(slice(0, 2), slice(0, 2)),
            "esophagus": np.zeros((100, 100), bool),
        }
        facts = ct_facts(masks, 0.5, 9.0)
        assert facts is not None
        assert facts.organs == ("liver", "spleen")
        assert facts.level == "middle"
        finer = ct_facts(masks, 0.0, 12.0)
        assert finer is not None
        assert finer.organs == ("liver", "spleen", "aorta")
        assert finer.level == "lower"
        assert ct_facts({"esophagus": masks["esophagus"]}, 0.5, 9.0) is None
        for seed in range(20):
            caption = ct_caption(facts, random.Random(seed))
            assert "the liver and the spleen" in caption
            assert "middle third" in caption
            assert "esophagus" not in caption
