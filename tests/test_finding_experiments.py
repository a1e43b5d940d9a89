"""Experiments by name: those of the current folder, then those of the installed package."""

from pathlib import Path

import pytest

from medzeroseg import experiments
from medzeroseg.errors import ConfigurationError
from medzeroseg.experiments import find_experiment


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The current folder's experiments and the package's; both have `shared`."""
    for name in ("here", "installed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"only_{name}.yaml").touch()
        (tmp_path / name / "shared.yaml").touch()
    monkeypatch.setattr(experiments, "installed_folders", lambda: [tmp_path / "installed"])
    return tmp_path / "here", tmp_path / "installed"


def test_the_current_folder_goes_first(folders: tuple[Path, Path]) -> None:
    here, installed = folders
    assert find_experiment("shared", here) == here / "shared.yaml"
    assert find_experiment("only_here", here) == here / "only_here.yaml"
    assert find_experiment("only_installed", here) == installed / "only_installed.yaml"
    assert find_experiment("only_installed", here / "nowhere") == installed / "only_installed.yaml"


def test_a_path_is_taken_as_it_is(folders: tuple[Path, Path]) -> None:
    path = folders[0] / "shared.yaml"
    assert find_experiment(str(path), folders[1]) == path


def test_an_unknown_name_lists_those_of_both(folders: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        find_experiment("nothing", folders[0])
    for name in ("only_here", "only_installed", "shared"):
        assert f"  {name}\n" in str(caught.value)


def test_without_any_it_says_where_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "installed_folders", list)
    with pytest.raises(ConfigurationError, match="root of the checkout"):
        find_experiment("phantom_cehnc", tmp_path)
