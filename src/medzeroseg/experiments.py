"""Finding an experiment file by name."""

from pathlib import Path

from medzeroseg.errors import ConfigurationError

EXPERIMENTS = Path("experiments")


def find_experiment(name: str, folder: Path = EXPERIMENTS) -> Path:
    """Path of an experiment's YAML file.

    Args:
        name: Name without `.yaml`, or a path.
        folder: Where experiments lie.

    Raises:
        ConfigurationError: There is no such experiment; the known ones are listed.
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml"} and path.is_file():
        return path
    path = folder / f"{name}.yaml"
    if name and path.is_file():
        return path
    known = sorted(file.stem for file in folder.glob("*.yaml"))
    problem = f"There is no experiment {name!r} in {folder.resolve()}." if name else "No experiment was named."
    listed = "\n".join(f"  {stem}" for stem in known) or "  (none: run this from the root of the checkout)"
    raise ConfigurationError(f"{problem} Known experiments:\n{listed}\nFor example: make train EXP=phantom_cehnc")
