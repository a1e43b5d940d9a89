from pathlib import Path

import numpy as np
import pytest

from medzeroseg.errors import OutputError
from medzeroseg.imaging import InputError, Volume, write_map
from medzeroseg.inference.outputs import digest_of


def test_maps_are_written_in_formats_that_hold_them(tmp_path: Path):
    volume = Volume(np.zeros((2, 8, 9), np.uint8))
    with pytest.raises(OutputError, match=r"\.nii\.gz, \.nii or \.png"):
        write_map(tmp_path / "map.dcm", np.zeros((2, 8, 9), np.float32), volume)
    with pytest.raises(OutputError, match="one slice"):
        write_map(tmp_path / "map.png", np.zeros((2, 8, 9), np.float32), volume)
    with pytest.raises(ValueError, match="as in the view"):
        write_map(tmp_path / "map.nii", np.zeros((2, 9, 8), np.float32), volume)
    assert not list(tmp_path.iterdir())


def test_the_digest_follows_the_content(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"one")
    first = digest_of(tmp_path)
    (tmp_path / "b").write_bytes(b"two")
    assert digest_of(tmp_path) != first
    (tmp_path / "b").unlink()
    assert digest_of(tmp_path) == first
    with pytest.raises(InputError, match="cannot be read"):
        digest_of(tmp_path / "gone")
