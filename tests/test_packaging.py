"""The wheel and the sdist: built, installed outside of the tree, and used there."""

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.helpers.fake_inference import write_checkpoint, write_picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SOURCES = ("src", "data_modules", "experiments", "docs", "docs_build", "notebooks", "benchmarks", "tests")
FILES = ("setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "requirements.txt")


def _run(command: Sequence[str | Path], cwd: Path) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the sdist, and the wheel made from the sdist: what is missing there is missing here."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for name in SOURCES:
        shutil.copytree(project_root / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in FILES:
        shutil.copy(project_root / name, tree / name)
    uv = Path(sys.prefix) / "bin" / "uv"
    # without isolation: the lock's setuptools builds, nothing is fetched
    _run([uv, "build", "--offline", "--no-build-isolation", "--python", sys.executable, "--out-dir", out, tree], tree)
    return out


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, which sees the packages of this one, but not the tree."""
    home = tmp_path_factory.mktemp("user") / "venv"
    uv = Path(sys.prefix) / "bin" / "uv"
    _run([uv, "venv", "--offline", "--python", sys.executable, home], built)
    [wheel] = built.glob("*.whl")
    _run([uv, "pip", "install", "--offline", "--no-deps", "--python", home / "bin" / "python", wheel], built)
    [site] = (home / "lib").glob("python*/site-packages")
    # The folder's own path files, such as an editable install's, are not read then.
    (site / "lock.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return home / "bin"


def test_the_wheel_holds_code_types_and_data(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        *("medzeroseg/py.typed", "data_modules/py.typed", "medzeroseg/defaults.yaml", "medzeroseg/prompts.yaml"),
        *("medzeroseg/models/configs/small.json", "medzeroseg/inference/default_method.yaml"),
        *("medzeroseg_experiments/phantom_cehnc.yaml", "medzeroseg_experiments/parts/small_model.yaml"),
    ):
        assert name in names, name
    assert {name.split("/")[0] for name in names} - {"medzeroseg", "data_modules", "medzeroseg_experiments"} == {
        name.split("/")[0] for name in names if ".dist-info/" in name
    }


def test_the_sdist_holds_what_a_packager_runs(built: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("requirements.txt", "tests/conftest.py", "experiments/phantom_cehnc.yaml", "LICENSE", "docs/index.md"):
        assert name in names, name


def test_the_installed_package_is_the_wheels(installed: Path, tmp_path: Path) -> None:
    code = "import medzeroseg, data_modules; print(medzeroseg.__file__); print(data_modules.__file__)"
    for line in _run([installed / "python", "-c", code], tmp_path).splitlines():
        assert Path(line).is_relative_to(installed.parent)
    assert _run([installed / "medzeroseg", "--version"], tmp_path).strip() == "0.1.0"


def test_an_experiment_is_found_and_trained_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    sizes = ("train=8", "validation=4", "test=6", "batch_size=4", "num_workers=0")
    small = [f"--data.init_args.{option}" for option in sizes]
    trainer = [f"--trainer.{option}" for option in ("max_epochs=1", "limit_train_batches=1", "accelerator=cpu")]
    _run([installed / "medzeroseg", "train", "phantom_cehnc", "--", *small, *trainer], tmp_path)
    assert (tmp_path / "runs" / "phantom_cehnc" / "tables" / "table1.md").is_file()
    assert (tmp_path / "data" / "phantom").is_dir()


def test_a_picture_is_segmented(installed: Path, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "best.ckpt")
    picture = write_picture(tmp_path / "picture.png")
    words = ["--text", "lungs", "--checkpoint", checkpoint, "--output", tmp_path / "out", "--device", "cpu"]
    _run([installed / "medzeroseg", "segment", picture, *words], tmp_path)
    assert list((tmp_path / "out").rglob("labels.png"))
