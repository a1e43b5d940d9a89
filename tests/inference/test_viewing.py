from pathlib import Path

import numpy as np
import pytest

from medzeroseg.errors import ConfigurationError
from medzeroseg.imaging import ABDOMEN_WINDOW_HU, Geometry, InputError, Volume
from medzeroseg.inference.request import SegmentationRequest
from medzeroseg.inference.viewing import look_at, require_known

KNOWN = ("any", "cardiac MRI", "abdominal CT", "chest X-ray")
PATH = Path("scan.nii")


def scan(modality: str | None = None, window: tuple[float, float] | None = None, low: int = -1000) -> Volume:
    """Axes L, P, S: a sagittal stack, which axial viewing must turn."""
    values = np.linspace(low, 400, 10 * 11 * 12).round().astype(np.int16).reshape(10, 11, 12)
    affine = np.diag([-1.0, -2.0, 3.0, 1.0])
    return Volume(values, Geometry(affine), modality=modality, window=window)


def view(volume: Volume, **options: object):
    return look_at(volume, PATH, SegmentationRequest(("liver",), **options), KNOWN)


@pytest.mark.parametrize(
    ("code", "modality", "plane"),
    [
        ("CT", "abdominal CT", "axial"),
        ("MR", "cardiac MRI", "stored"),
        ("DX", "chest X-ray", "stored"),
        ("US", "any", "axial"),
        (None, "any", "axial"),
    ],
)
def test_the_header_chooses_words_and_plane(code: str | None, modality: str, plane: str):
    seen = view(scan(code))
    assert (seen.modality, seen.plane) == (modality, plane)
    assert seen.volume.shape == ((12, 11, 10) if plane == "axial" else (10, 11, 12))
    assert any("header says" in note for note in seen.notes) == (modality != "any")


def test_what_is_asked_for_wins_over_the_header():
    seen = view(scan("CT"), modality="cardiac MRI", plane="coronal", window="0,100")
    assert (seen.modality, seen.plane, seen.window) == ("cardiac MRI", "coronal", (0, 100))


def test_two_modalities_of_a_kind_are_not_chosen_between():
    seen = look_at(scan("CT"), PATH, SegmentationRequest(("liver",)), (*KNOWN, "chest CT"))
    assert seen.modality == "any"
    assert seen.window == ABDOMEN_WINDOW_HU


def test_windows_by_kind():
    assert view(scan("CT", window=(0.0, 80.0))).window == ABDOMEN_WINDOW_HU
    assert view(scan(), modality="abdominal CT").window == ABDOMEN_WINDOW_HU
    assert view(scan("DX", window=(0.0, 80.0))).window == (0, 80)
    assert view(scan("CT", window=(0.0, 80.0)), window="file").window == (0, 80)
    assert view(scan("CT"), window="lung").window == (-1350, 150)
    volume = scan("MR")
    assert view(volume).window == pytest.approx(np.percentile(volume.array, (0.5, 99.5)), abs=1)
    assert view(volume, window="percentiles:10,90").window == pytest.approx(
        np.percentile(volume.array, (10, 90)), abs=1
    )
    picture = Volume(np.full((1, 9, 9), 51, np.uint8), window=(0.0, 255.0))
    assert np.allclose(view(picture).grey, 0.2)


def test_a_ct_that_does_not_say_so_is_suspected():
    assert any("air on CT" in note for note in view(scan()).notes)
    assert not view(scan(low=0)).notes


def test_the_windowed_slices_follow_the_view():
    volume = scan("CT")
    seen = view(volume)
    low, high = ABDOMEN_WINDOW_HU
    assert np.allclose(seen.grey, ((seen.volume.array - low) / (high - low)).clip(0, 1), atol=1e-6)


def test_a_single_pixel_is_refused_and_a_flat_image_is_noted():
    with pytest.raises(InputError, match=r"scan.nii: its slices have 1 x 1 pixels; at least 8 x 8"):
        view(Volume(np.zeros((1, 1, 1), np.uint8)))
    assert any("no contrast" in note for note in view(Volume(np.ones((1, 9, 9), np.uint16))).notes)


def test_a_window_that_the_file_lacks_and_an_unknown_modality_are_named():
    with pytest.raises(ConfigurationError, match=r"scan\.nii asks for none"):
        view(scan("CT"), window="file")
    with pytest.raises(ConfigurationError, match="'abdomen' is unknown; known: any, cardiac MRI, abdominal CT"):
        require_known("abdomen", KNOWN)
