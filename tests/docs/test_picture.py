"""The README's picture: its command draws one from any phantom and model, and the kept one is small and whole."""

import base64
import io
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from docs_build import picture

SVG = "{http://www.w3.org/2000/svg}"
MOST_BYTES = 100_000


def _rasters(svg: ElementTree.Element) -> list[Image.Image]:
    data = [image.attrib["href"].removeprefix("data:image/png;base64,") for image in svg.iter(f"{SVG}image")]
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in data]


def _draw(out: Path, data: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    words = ["picture", "--data", str(data), "--checkpoint", str(checkpoint), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    return picture.main()


def test_the_command_draws_words_image_saliency_and_mask(
    phantom: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "picture.svg"
    assert _draw(out, phantom, checkpoint, monkeypatch) == 0
    text = out.read_text(encoding="utf-8")
    svg = ElementTree.fromstring(text)
    shown = [row for row in picture.ASKED.values() if f"--text “{row[1]}”" in text]
    assert shown
    rows = picture.find_rows(phantom, checkpoint)
    assert [row.words for row in rows] == [words for _, words, _ in shown]
    assert [raster.size for raster in _rasters(svg)] == [row.grey.shape[::-1] for row in rows for _ in range(2)]
    masks = [path.attrib["d"] for path in svg.iter(f"{SVG}path") if "fill-opacity" in path.attrib]
    for row, runs in zip(rows, masks, strict=True):  # as many pixels as the mask has
        assert sum(int(width) for width in re.findall(r"h(\d+)v1", runs)) == row.mask.sum()
        assert 0 <= row.dice <= 1
    assert len(text) < MOST_BYTES
    assert picture.draw(rows) == text


def test_what_is_missing_is_named(
    phantom: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "picture.svg"
    assert _draw(out, tmp_path / "nowhere", checkpoint, monkeypatch) == 2
    assert "make phantom" in capsys.readouterr().err
    assert _draw(out, phantom, tmp_path / "none.ckpt", monkeypatch) == 2
    assert "none.ckpt" in capsys.readouterr().err
    monkeypatch.setattr(picture, "_LEAST_PX", 10**9)
    assert _draw(out, phantom, checkpoint, monkeypatch) == 2
    assert "shows left ventricle or liver or lungs" in capsys.readouterr().err
    assert not out.exists()


def test_the_kept_picture_is_the_commands(project_root: Path) -> None:
    path = project_root / "docs" / "picture.svg"
    assert path.stat().st_size < MOST_BYTES
    text = path.read_text(encoding="utf-8")
    svg = ElementTree.fromstring(text)
    assert len(_rasters(svg)) == 2 * len(picture.ASKED)
    for modality, words, _ in picture.ASKED.values():
        assert f"--text “{words}”" in text
        assert f"--modality “{modality}”" in text
    assert not re.search(r'href="(?!data:|#)', text)  # nothing is fetched from elsewhere
    assert "docs/picture.svg" in (project_root / "README.md").read_text(encoding="utf-8")
