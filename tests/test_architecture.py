"""Who may import whom, and that packaging lists every package."""

import ast
import configparser
import re
from pathlib import Path

import pytest
from setuptools import find_packages


def _imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            module = node.module or ""
            # `from medzeroseg import distributed` imports a module of the package, not the package
            found.update(f"{module}.{alias.name}" if module == "medzeroseg" else module for alias in node.names)
    return found


def _modules(folder: Path) -> list[Path]:
    files = sorted(folder.rglob("*.py"))
    assert files, f"no module in {folder}"
    return files


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_the_package_does_not_know_the_data_modules(project_root: Path) -> None:
    for file in _modules(project_root / "src" / "medzeroseg"):
        if file.name != "main.py":
            assert not [name for name in _imports(file) if _within(name, "data_modules")], file


def test_data_modules_know_only_imaging(project_root: Path) -> None:
    for file in _modules(project_root / "data_modules"):
        names = [name for name in _imports(file) if _within(name, "medzeroseg")]
        assert all(_within(name, "medzeroseg.imaging") for name in names), (file, names)


@pytest.mark.parametrize(
    "package",
    [
        "losses",
        "metrics",
        "models",
        "tables",
        "imaging",
        "saliency",
        "postprocessing",
        "segmenters",
        "zero_shot",
        "figures",
    ],
)
def test_pure_packages_do_not_know_lightning(project_root: Path, package: str) -> None:
    for file in _modules(project_root / "src" / "medzeroseg" / package):
        assert not [name for name in _imports(file) if _within(name, "lightning")], file


def test_losses_know_only_themselves_and_ranks(project_root: Path) -> None:
    for file in _modules(project_root / "src" / "medzeroseg" / "losses"):
        names = [name for name in _imports(file) if _within(name, "medzeroseg")]
        allowed = ("medzeroseg.losses", "medzeroseg.distributed")
        assert all(any(_within(name, package) for package in allowed) for name in names), (file, names)


def test_every_package_is_listed_for_the_wheel(project_root: Path) -> None:
    config = configparser.ConfigParser()
    config.read(project_root / "setup.cfg")
    listed = config["options"]["packages"].split()
    found = find_packages(str(project_root / "src"))
    found += [
        "data_modules",
        *(f"data_modules.{name}" for name in find_packages(str(project_root / "data_modules"))),
    ]
    found.append("medzeroseg_experiments")  # no code: the YAML files, see medzeroseg.experiments
    assert sorted(listed) == sorted(found)
    assert len(listed) == len(set(listed))


def test_no_module_is_called_utils(project_root: Path) -> None:
    for folder in ("src", "data_modules"):
        assert not list((project_root / folder).rglob("*util*.py"))


def test_no_file_names_a_package_host(project_root: Path) -> None:
    for name in (
        "requirements.txt",
        "requirements-dev.txt",
        "requirements.lock",
        "setup.cfg",
        "pyproject.toml",
        "Makefile",
        "Dockerfile",
        "MANIFEST.in",
        "mkdocs.yml",
        ".pre-commit-config.yaml",
    ):
        text = (project_root / name).read_text(encoding="utf-8")
        assert "://" not in text, name
        assert "index-url" not in text, name


def test_the_dockerfile_copies_what_is_there(project_root: Path) -> None:
    text = (project_root / "Dockerfile").read_text(encoding="utf-8")
    copied = [word for line in re.findall(r"^COPY --chown=\S+ (.+)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert {"Makefile", "requirements.lock", "src", "data_modules", "experiments", "."} <= set(copied)
    ignored = (project_root / ".dockerignore").read_text(encoding="utf-8").split()
    for name in copied:
        assert (project_root / name).exists(), name
        assert name not in ignored
    stages = re.findall(r"^FROM \S+ AS (\w+)$", text, re.MULTILINE)
    assert stages == ["cpu", "cuda"]  # what BASE chooses from
    assert re.search(r"^ARG BASE=cpu$", text, re.MULTILINE)
