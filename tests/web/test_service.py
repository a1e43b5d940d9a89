import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medzeroseg.errors import ConfigurationError
from medzeroseg.imaging import InputError
from medzeroseg.inference.drawing import draw_slice
from medzeroseg.web.server import remove_old
from medzeroseg.web.service import LONGEST_WORDS, MOST_WORDS, Service
from tests.helpers.fake_dicom import write_series
from tests.helpers.fake_inference import blobs
from tests.helpers.identity import SECRETS, holders


def picture(kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(blobs(48, 64, seed=1)).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def service(prepared, tmp_path: Path) -> Service:
    return Service(prepared("anything"), tmp_path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_words_become_masks_files_and_a_table(service: Service, tmp_path: Path, kind: str):
    answer = service.segment(picture(kind), " heart \n\nleft  lung\n", None)
    assert [row.label.text for row in answer.rows] == ["heart", "left lung"]
    assert [path.name for path in answer.files] == ["mask.png", "overlay.png", "result.json"]
    mask = np.asarray(Image.open(next(path for path in answer.files if path.name == "mask.png")))
    assert mask.shape == (48, 64)
    for row in answer.rows:
        assert int((mask == row.label.label).sum()) == row.label.voxels
        assert (row.size != "") == row.label.found == (row.note == "")
    record = json.loads(answer.files[-1].read_text("utf-8"))
    assert [label["text"] for label in record["labels"]] == ["heart", "left lung"]
    # nothing of the upload stays
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == picture(kind)]


def test_the_pictures_show_what_is_ticked(service: Service):
    answer = service.segment(picture(), "heart\nleft lung", None)
    found = [label.label for label in answer.result.found]
    assert found
    bare, whole = np.asarray(answer.overlay([])), np.asarray(answer.overlay())
    changed = (bare != whole).any(axis=-1)
    assert changed.any()
    assert np.array_equal(np.asarray(answer.overlay(found)), whole)
    under = np.asarray(draw_slice(answer.result, 0), np.float32)
    heat = (np.asarray(answer.saliency(1), np.float32) - 0.4 * under).mean(axis=-1)
    wanted = answer.result.view_saliency(1)[0]
    small = np.asarray(Image.fromarray(heat).resize(wanted.shape[::-1]))
    assert np.corrcoef(small.ravel(), wanted.ravel())[0, 1] > 0.9  # bright where the saliency is high


def test_dicom_brings_a_segmentation_and_no_identity(service: Service, tmp_path: Path):
    series = tmp_path / "series"
    write_series(series, count=1, size=48, PatientName=SECRETS[0], PatientID=SECRETS[1], PatientBirthDate=SECRETS[2])
    (path,) = series.iterdir()
    assert holders([path])
    answer = service.segment(path.read_bytes(), "heart", "abdominal CT")
    assert "segmentation.dcm" in [path.name for path in answer.files]
    assert holders(answer.files, repr(answer.rows)) == []


@pytest.mark.parametrize(
    ("image", "words", "error", "message"),
    [
        (b"GIF89a", "heart", InputError, "no PNG, JPEG or DICOM"),
        (b"", "heart", InputError, "no PNG, JPEG or DICOM"),
        (picture()[:60], "heart", InputError, "the image"),
        (picture(), " \n ", ConfigurationError, "what to look for"),
        (picture(), "heart\nHeart", ConfigurationError, "given twice"),
        (picture(), "x" * (LONGEST_WORDS + 1), ConfigurationError, "characters"),
        (picture(), "\n".join(f"word {n}" for n in range(MOST_WORDS + 1)), ConfigurationError, "At most"),
    ],
)
def test_what_cannot_be_done_is_said_without_a_path(service, tmp_path, image, words, error, message):
    with pytest.raises(error, match=message) as caught:
        service.segment(image, words, None)
    assert str(tmp_path) not in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_unknown_modality_is_refused(service: Service):
    with pytest.raises(ConfigurationError, match="modality"):
        service.segment(picture(), "heart", "ultrasound of Mars")


def test_old_files_go(tmp_path: Path):
    import os
    import time

    (tmp_path / "a").mkdir()
    for name, age_s in (("old.png", 1000), ("new.png", 10)):
        (tmp_path / "a" / name).write_text("x")
        then = time.time() - age_s
        os.utime(tmp_path / "a" / name, (then, then))
    remove_old(tmp_path, 900)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["new.png"]
