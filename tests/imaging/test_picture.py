import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medzeroseg.imaging import InputError, read_picture

RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def pixels(path: Path) -> np.ndarray:
    picture = read_picture(path)
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_grey_becomes_three_equal_channels(tmp_path: Path, suffix: str):
    path = tmp_path / f"grey.{suffix}"
    Image.fromarray(RAMP).save(path, **({"quality": 100} if suffix == "jpg" else {}))
    got = pixels(path)
    assert np.abs(got[..., 0] - RAMP).max() <= 2
    assert (got == got[..., :1]).all()


def test_colour_is_kept(tmp_path: Path):
    colours = np.random.default_rng(0).integers(0, 255, (6, 5, 3), np.uint8)
    Image.fromarray(colours).save(tmp_path / "a.png")
    assert (pixels(tmp_path / "a.png") == colours).all()


@pytest.mark.parametrize("colour", [(200, 30, 60), (20, 220, 90), (255, 255, 255), (0, 0, 0)])
def test_cmyk_jpeg_shows_its_colours(tmp_path: Path, colour: tuple[int, int, int]):
    path = tmp_path / "cmyk.jpg"
    Image.new("RGB", (16, 16), colour).convert("CMYK").save(path, quality=95)
    assert b"Adobe" in path.read_bytes()[:200]
    assert np.abs(pixels(path) - np.array(colour)).max() <= 6


def test_palette_and_one_bit(tmp_path: Path):
    picture = Image.new("RGB", (4, 4), (10, 200, 30))
    picture.quantize(4).save(tmp_path / "palette.png")
    Image.fromarray(RAMP > 100).save(tmp_path / "bit.png")
    assert np.abs(pixels(tmp_path / "palette.png") - [10, 200, 30]).max() <= 2
    assert (pixels(tmp_path / "bit.png")[..., 0] == np.where(RAMP > 100, 255, 0)).all()


def test_transparent_pixels_lie_on_black_whatever_colour_they_hide(tmp_path: Path):
    array = np.full((2, 2, 4), 255, np.uint8)
    array[0, 0] = (255, 255, 255, 0)
    Image.fromarray(array).save(tmp_path / "a.png")
    got = pixels(tmp_path / "a.png")
    assert (got[0, 0] == 0).all()
    assert (got[1, 1] == 255).all()


def test_sixteen_bits_are_scaled_by_their_own_range(tmp_path: Path):
    values = np.array([[1000, 2000], [3000, 5000]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert pixels(tmp_path / "deep.png")[..., 0].tolist() == [[0, 64], [128, 255]]


def test_constant_sixteen_bits_are_black(tmp_path: Path):
    Image.fromarray(np.full((3, 3), 4000, np.uint16)).save(tmp_path / "flat.png")
    assert (pixels(tmp_path / "flat.png") == 0).all()


def test_exif_orientation_is_not_applied(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees"
    Image.fromarray(RAMP[:4]).save(tmp_path / "a.jpg", exif=exif)
    assert read_picture(tmp_path / "a.jpg").size == (8, 4)


def damaged(kind: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG" if "jpeg" in kind else "PNG")
    whole = buffer.getvalue()
    if kind.startswith("truncated"):
        return whole[: len(whole) // 2]
    if kind.startswith("header"):
        return whole[:20]
    if kind == "bits flipped png":
        return whole[:200] + bytes(255 - b for b in whole[200:400]) + whole[400:]
    return {"empty": b"", "text": b"<html>404 not found</html>"}[kind]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty", "empty"),
        ("text", "no picture"),
        ("truncated jpeg", "truncated"),
        ("truncated png", "truncated"),
        ("header jpeg", "picture"),
        ("header png", "picture"),
        ("bits flipped png", "damaged"),
    ],
)
def test_a_damaged_file_is_named_with_its_reason(tmp_path: Path, kind: str, reason: str):
    path = tmp_path / "some case.jpg"
    path.write_bytes(damaged(kind))
    with pytest.raises(InputError, match=reason) as caught:
        read_picture(path)
    assert str(path) in str(caught.value)


def test_missing_file_and_folder_are_named(tmp_path: Path):
    with pytest.raises(InputError, match="no such file"):
        read_picture(tmp_path / "nothing.png")
    with pytest.raises(InputError, match="folder"):
        read_picture(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path: Path):
    path = tmp_path / "locked.png"
    Image.fromarray(RAMP).save(path)
    path.chmod(0)
    with pytest.raises(InputError, match="permission"):
        read_picture(path)


def test_too_many_pixels_are_refused(tmp_path: Path):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"8 x 8 pixels, over the limit of 63"):
        read_picture(tmp_path / "a.png", max_pixels=63)
    assert read_picture(tmp_path / "a.png", max_pixels=64).size == (8, 8)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path):
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9)))
    (tmp_path / "bomb.png").write_bytes(png)
    with pytest.raises(InputError, match="over the limit"):
        read_picture(tmp_path / "bomb.png")
