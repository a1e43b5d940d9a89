"""What a paper consists of: experiments and seeds as data, their order from their own configuration."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from medzeroseg.errors import ConfigurationError
from medzeroseg.experiments import find_experiment, installed_folders
from medzeroseg.paper.configs import with_seed

PAPERS = Path("experiments/papers")


@dataclass(frozen=True)
class Paper:
    """A file of experiments/papers/.

    Attributes:
        name: Its stem, e.g. `phantom`.
        title: Of the report.
        statement: What kind of data and models these are, and what the figures may not be taken for.
        seeds: Each experiment runs once per seed.
        data_is_made: Whether the data is made on first use; else it has to be there.
        experiments: Name to file, in the order of the file.
    """

    name: str
    title: str
    statement: str
    seeds: tuple[int, ...]
    data_is_made: bool
    experiments: dict[str, Path]


@dataclass(frozen=True, order=True)
class Run:
    """One seed of an experiment."""

    experiment: str
    seed: int

    def __str__(self) -> str:
        """For a person."""
        return f"{self.experiment}, seed {self.seed}"

    @property
    def key(self) -> str:
        """For names of files and anchors."""
        return f"{self.experiment}_seed_{self.seed}"


@dataclass(frozen=True)
class Step:
    """A run of a plan.

    Attributes:
        run: Which.
        file: The experiment's YAML.
        folder: The run's folder.
        settings: Its resolved configuration.
        needs: Runs whose checkpoints it reads, with the checkpoints.
    """

    run: Run
    file: Path
    folder: Path
    settings: dict[str, Any] = field(repr=False)
    needs: dict[Run, Path]


def load_paper(name: str, folder: Path = PAPERS) -> Paper:
    """Read the plan of a paper.

    Args:
        name: Name of a file in `folder` without `.yaml`, or a path.
        folder: Where they lie; one in it goes before one of the same name that came with the installed package.

    Raises:
        ConfigurationError: There is no such file, it lacks or mistypes something, or names an unknown experiment.
    """
    known: dict[str, Path] = {}
    for place in (*(installed / folder.name for installed in installed_folders()), folder):
        known |= {file.stem: file for file in sorted(place.glob("*.yaml"))}
    path = Path(name) if name.endswith(".yaml") else known.get(name, Path())
    if not path.is_file():
        listed = ", ".join(known) or "none: run this from the root of the checkout"
        raise ConfigurationError(
            f"There is no paper {name!r} in {folder}/ ({listed}). For example: make paper DATA=phantom"
        )
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    kinds = {"title": str, "statement": str, "seeds": list, "data_is_made": bool, "experiments": list}
    if not isinstance(values, dict) or values.keys() != kinds.keys():
        raise ConfigurationError(f"{path} must have exactly the keys {', '.join(kinds)}.")
    for key, kind in kinds.items():
        if not isinstance(values[key], kind) or (kind is not bool and not values[key]):
            raise ConfigurationError(f"{path}: {key} must be a {kind.__name__} that is not empty, got {values[key]!r}.")
    if not all(type(seed) is int and seed >= 0 for seed in values["seeds"]):
        raise ConfigurationError(f"{path}: seeds must be integers from 0 up, got {values['seeds']}.")
    names = [str(experiment) for experiment in values["experiments"]]
    twice = sorted({experiment for experiment in names if names.count(experiment) > 1})
    if twice:
        raise ConfigurationError(f"{path} names {', '.join(twice)} more than once.")
    experiments = {Path(experiment).stem: find_experiment(experiment) for experiment in names}
    return Paper(
        name=path.stem,
        title=values["title"],
        statement=" ".join(values["statement"].split()),
        seeds=tuple(dict.fromkeys(values["seeds"])),
        data_is_made=values["data_is_made"],
        experiments=experiments,
    )


def build_steps(paper: Paper, templates: Mapping[str, str]) -> list[Step]:
    """The runs of a paper, in an order in which each comes after those that it needs.

    A run needs another where its configuration names a checkpoint in the other's folder.

    Args:
        paper: The plan.
        templates: Of its experiments, from `configs.resolve`.

    Raises:
        ConfigurationError: An experiment has another name than its file, two write to one folder, a checkpoint is of a
            run that the plan lacks or that nobody makes, or runs need each other.
    """
    settings: dict[Run, dict[str, Any]] = {}
    folders: dict[Path, Run] = {}
    for experiment in paper.experiments:
        for seed in paper.seeds:
            run = Run(experiment, seed)
            settings[run] = with_seed(templates[experiment], seed)
            _require_name_of_file(paper.experiments[experiment], settings[run])
            folder = _absolute(settings[run]["trainer"]["default_root_dir"])
            other = folders.setdefault(folder, run)
            if other != run:
                raise ConfigurationError(
                    f"{run} and {other} write to the same folder, {folder}: give `experiment:` of each its own name."
                )
    steps = {}
    for folder, run in folders.items():
        needs = _needs(run, settings[run], folders)
        steps[run] = Step(run, paper.experiments[run.experiment], folder, settings[run], needs)
    return _in_order(steps)


def _require_name_of_file(file: Path, settings: Mapping[str, Any]) -> None:
    """A run's record has the name of its experiment, the plan that of the file: the report joins them by it."""
    callbacks = settings["trainer"].get("callbacks") or []
    named = {"experiment": settings["experiment"]}
    named |= {
        f"experiment of the callback {callback['class_path'].rpartition('.')[2]}": callback["init_args"]["experiment"]
        for callback in callbacks
        if "experiment" in (callback.get("init_args") or {})
    }
    for key, name in named.items():
        if name != file.stem:
            raise ConfigurationError(
                f"{file}: {key} is {name!r}, but the file is named {file.stem!r}, and a paper finds its records by the "
                f"file's name. Write `experiment: {file.stem}` (callbacks: `experiment: ${{experiment}}`), or rename "
                "the file."
            )


def _needs(run: Run, settings: dict[str, Any], folders: Mapping[Path, Run]) -> dict[Run, Path]:
    needs = {}
    for text in _texts(settings):
        if not text.endswith(".ckpt"):
            continue
        checkpoint = _absolute(text)
        owner = folders.get(checkpoint.parent.parent)
        if owner is not None:
            needs[owner] = checkpoint
        elif not checkpoint.is_file() or checkpoint.is_relative_to(_absolute(settings["runs_dir"])):
            raise ConfigurationError(
                f"{run} reads {text}, which no run of this paper makes: add the experiment to the paper's file "
                "in experiments/papers/, or name a checkpoint outside the runs that is there."
            )
    return needs


def _in_order(steps: dict[Run, Step]) -> list[Step]:
    ordered: dict[Run, Step] = {}
    while len(ordered) < len(steps):
        free = [run for run, step in steps.items() if run not in ordered and ordered.keys() >= step.needs.keys()]
        if not free:
            left = ", ".join(str(run) for run in steps if run not in ordered)
            raise ConfigurationError(f"These runs wait for each other's checkpoints, in a circle: {left}.")
        ordered |= {run: steps[run] for run in free}
    return list(ordered.values())


def missing_data(steps: Sequence[Step]) -> dict[Path, list[str]]:
    """Folders of data that are not there, or are empty, with the experiments that read them."""
    wanted: dict[Path, list[str]] = {}
    for step in steps:
        root = (step.settings["data"].get("init_args") or {}).get("root")
        if root is not None:
            names = wanted.setdefault(Path(root), [])
            names += [step.run.experiment] if step.run.experiment not in names else []
    return {root: names for root, names in wanted.items() if not root.is_dir() or not any(root.iterdir())}


def require_data(steps: Sequence[Step]) -> None:
    """Refuse to start where data is missing.

    Raises:
        ConfigurationError: Every missing dataset is listed, with who needs it.
    """
    missing = missing_data(steps)
    if missing:
        lines = [f"  {root}: for {', '.join(names)}" for root, names in missing.items()]
        raise ConfigurationError(
            "This data is not there (nothing was started):\n" + "\n".join(lines) + "\nPut it there, or name another "
            "place with the variables DATA_ROOT and REAL_SAMPLES; README, 'Licences', tells "
            "where it is from. `make data-check` looks at it more closely."
        )


def _texts(value: Any) -> Iterator[str]:  # noqa: ANN401 - any plain value
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - no symbolic link is followed: names are compared
