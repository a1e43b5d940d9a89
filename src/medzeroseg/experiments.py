"""Finding an experiment file by name."""

from importlib.util import find_spec
from pathlib import Path

from medzeroseg.errors import ConfigurationError

EXPERIMENTS = Path("experiments")
INSTALLED_PACKAGE = "medzeroseg_experiments"
"""As which the folder comes with an installed package (setup.cfg)."""


def find_experiment(name: str, folder: Path = EXPERIMENTS) -> Path:
    """Path of an experiment's YAML file.

    One in the folder goes before one of the same name that came with the installed package.

    Args:
        name: Name without `.yaml`, or a path.
        folder: Where experiments lie.

    Raises:
        ConfigurationError: There is no such experiment; the known ones are listed.
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml"} and path.is_file():
        return path
    known: dict[str, Path] = {}
    for place in (*installed_folders(), folder):
        known |= {file.stem: file for file in place.glob("*.yaml")}
    if name in known:
        return known[name]
    problem = f"There is no experiment {name!r} in {folder.resolve()}." if name else "No experiment was named."
    listed = "\n".join(f"  {stem}" for stem in sorted(known)) or "  (none: run this from the root of the checkout)"
    raise ConfigurationError(f"{problem} Known experiments:\n{listed}\nFor example: make train EXP=phantom_cehnc")


def installed_folders() -> list[Path]:
    """Where the experiments of an installed package lie; empty where it was installed without them."""
    spec = find_spec(INSTALLED_PACKAGE)
    places = [] if spec is None else map(Path, spec.submodule_search_locations or ())
    return [place for place in places if place.is_dir()]
