"""What all layouts of the phantom share: equal bytes, one folder one layout, the command."""

import argparse
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_modules.phantom import add_phantom_arguments, run_phantom
from data_modules.phantom.acdc import AcdcLayout
from data_modules.phantom.command import make_layout
from data_modules.phantom.covid_qu_ex import CovidQuExLayout
from data_modules.phantom.generation import generate, generate_for_reading
from data_modules.phantom.layout import Layout
from data_modules.phantom.nifti import encode_nifti
from data_modules.phantom.roco import RocoLayout
from data_modules.phantom.synapse import SynapseLayout
from medzeroseg.imaging import InputError
from tests.helpers.phantom import digests

SMALL: dict[str, Layout[Any, Any]] = {
    "acdc": AcdcLayout(1, training=2, testing=1),
    "synapse": SynapseLayout(1, volumes=2, size_px=64),
    "covid_qu_ex": CovidQuExLayout(1, train=9, validation=3, test=3),
}
every_layout = pytest.mark.parametrize("layout", SMALL.values(), ids=SMALL)


@every_layout
def test_bytes_depend_on_the_seed_alone(layout: Layout[Any, Any], tmp_path: Path):
    first = generate(layout, tmp_path / "first", workers=0)
    second = generate(layout, tmp_path / "second", workers=2)
    assert first.created
    assert second.created
    assert digests(tmp_path / "first") == digests(tmp_path / "second")
    assert not generate(layout, tmp_path / "first", workers=0).created
    other = generate(type(layout)(**layout.parameters | {"seed": 2}), tmp_path / "other", workers=0)
    kept = digests(tmp_path / "first").items() & digests(tmp_path / "other").items()
    assert [path for path, _ in kept if "infection masks" not in path] == []  # empty masks are alike
    assert other.manifest["content_sha256"] != first.manifest["content_sha256"]
    assert all(layout.own_files.fullmatch(path) for path in digests(tmp_path / "first") if path != "phantom.json")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_another_layout_is_not_replaced(tmp_path: Path):
    generate(SMALL["covid_qu_ex"], tmp_path, workers=0)
    before = digests(tmp_path)
    for act in (generate, generate_for_reading):
        with pytest.raises(InputError, match="'covid_qu_ex', not 'acdc'"):
            act(SMALL["acdc"], tmp_path, workers=0)
    assert digests(tmp_path) == before


def test_decoded_volumes_beside_a_phantom_do_not_keep_it_from_being_made_anew(tmp_path: Path):
    generate(SMALL["covid_qu_ex"], tmp_path / "covid", workers=0)
    cache = tmp_path / "covid" / ".medzeroseg_cache" / "volume"
    cache.mkdir(parents=True)
    (cache / "image.npy").write_bytes(b"x")
    assert generate(CovidQuExLayout(1, train=6, validation=3, test=3), tmp_path / "covid", workers=0).created
    assert not cache.exists()


def test_a_nifti_file_has_no_time_stamp():
    data = encode_nifti(np.zeros((2, 3, 4), np.uint8), np.diag([1.5, 1.5, 8.0, 1.0]))
    assert data[4:8] == bytes(4)  # RFC 1952: MTIME
    assert len(gzip.decompress(data)) == 352 + 24


# --- command line ---


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_phantom_arguments(parser)
    return parser.parse_args(arguments)


def test_options_set_the_sizes_of_the_layout():
    assert make_layout(parse()) == RocoLayout()
    assert make_layout(parse("--layout", "acdc", "--train", "3", "--test", "0")) == AcdcLayout(0, 3, 0)
    words = ("--layout", "synapse", "--cases", "4", "--image-size-px", "96", "--seed", "7")
    assert make_layout(parse(*words)) == SynapseLayout(7, 4, 96)
    assert make_layout(parse("--layout", "covid_qu_ex", "--validation", "9")) == CovidQuExLayout(validation=9)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--layout", "acdc", "--cases", "3"), "has no --cases.*--train, --test"),
        (("--layout", "roco", "--cases", "3"), "has no --cases"),
        (("--layout", "synapse", "--hard-negative-fraction", "0.1"), "has no --hard-negative-fraction"),
        (("--layout", "synapse", "--cases", "31"), "at most 30"),
        (("--layout", "covid_qu_ex", "--test", "-1"), "test must not be negative"),
        (("--layout", "acdc", "--train", "0", "--test", "0", "--workers", "-1"), "workers must not be negative"),
    ],
)
def test_wrong_options_are_named(words: tuple[str, ...], message: str, tmp_path: Path):
    with pytest.raises(InputError, match=message):
        run_phantom(parse(*words, "--out", str(tmp_path / "out")))
    assert list(tmp_path.iterdir()) == []


def test_command_writes_a_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ("--layout", "covid_qu_ex", "--train", "3", "--validation", "0", "--test", "3", "--workers", "0")
    assert run_phantom(parse(*words, "--out", str(tmp_path / "covid"))) == 0
    assert "written in" in capsys.readouterr().out
    assert (tmp_path / "covid/Lung Segmentation Data").is_dir()
    assert run_phantom(parse(*words, "--out", str(tmp_path / "covid"))) == 0
    assert "already there" in capsys.readouterr().out
