import pytest

from medzeroseg.errors import ConfigurationError
from medzeroseg.inference.request import MAX_LABELS, ReadingOptions, SegmentationRequest


def test_blanks_are_cleaned():
    assert SegmentationRequest((" left   ventricle ", "Liver")).text == ("left ventricle", "Liver")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ((), "say what to look for"),
        (("liver", "  "), "one is empty"),
        (("liver", "Liver "), "'Liver' is given twice"),
        (tuple(map(str, range(MAX_LABELS + 1))), "at most 254"),
    ],
)
def test_texts_that_name_nothing_are_refused(text: tuple[str, ...], message: str):
    with pytest.raises(ConfigurationError, match=message):
        SegmentationRequest(text)


@pytest.mark.parametrize(
    "option",
    [
        {"plane": "oblique"},
        {"identity": "hide"},
        {"min_score": 1.5},
        {"batch_size": 0},
        {"longest_px": 8},
        {"window": "liver"},
        {"window": "240,-160"},
        {"window": "percentiles:5,101"},
    ],
)
def test_each_option_is_named_when_it_is_wrong(option: dict[str, object]):
    with pytest.raises(ConfigurationError, match=f"^{next(iter(option))}"):
        SegmentationRequest(("liver",), **option)


def test_reading_options_are_checked():
    with pytest.raises(ConfigurationError, match="uneven_steps: expected error or accept"):
        ReadingOptions(uneven_steps="ignore")


@pytest.mark.parametrize("window", ["-160,240", "percentiles", "percentiles:1,99", "file", "lung"])
def test_known_windows(window: str):
    assert SegmentationRequest(("liver",), window=window).window == window
