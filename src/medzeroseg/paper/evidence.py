"""What finished runs have left: records, scores by case, configurations."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medzeroseg.errors import ConfigurationError
from medzeroseg.files import write_atomically
from medzeroseg.paper.plan import Run, Step
from medzeroseg.tables.records import RANKS_NAME
from medzeroseg.tables.records import RECORD_NAME as RETRIEVAL
from medzeroseg.tables.segmentation_records import CASES_NAME
from medzeroseg.tables.segmentation_records import RECORD_NAME as SEGMENTATION

_RECORDS = {RETRIEVAL: RANKS_NAME, SEGMENTATION: CASES_NAME}


@dataclass(frozen=True)
class Evidence:
    """What a finished run has left.

    Attributes:
        run: Which.
        cases: Its CSV by case, from which every figure of it can be computed again.
        cases_sha256: Of that file.
        config: Text of its resolved configuration.
        config_hash: Of model, data and settings, as the tables show it.
        git_revision: Of the code.
        environment: Versions and machine.
    """

    run: Run
    cases: Path
    cases_sha256: str
    config: str
    config_hash: str
    git_revision: str
    environment: dict[str, str]


def read_evidence(step: Step) -> Evidence:
    """Read what a finished run has left.

    Raises:
        ConfigurationError: A file is missing or damaged; it is named.
    """
    try:
        name = next(name for name in _RECORDS if (step.folder / name).is_file())
        record = json.loads((step.folder / name).read_text(encoding="utf-8"))
        cases = step.folder / _RECORDS[name]
        return Evidence(
            run=step.run,
            cases=cases,
            cases_sha256=hashlib.sha256(cases.read_bytes()).hexdigest(),
            config=(step.folder / "config.yaml").read_text(encoding="utf-8"),
            config_hash=record["config_hash"],
            git_revision=record["git_revision"],
            environment=record["environment"],
        )
    except (StopIteration, OSError, ValueError, KeyError) as error:
        raise ConfigurationError(
            f"The record of {step.run} in {step.folder} cannot be read ({error!r}). Remove it to run it again."
        ) from error


def gather(steps: Sequence[Step], folder: Path) -> Path:
    """A folder that holds exactly these runs, as links, for whatever reads a folder of runs.

    Args:
        steps: Finished runs.
        folder: Made anew.

    Returns:
        It, with `<experiment>/seed_<n>` in it.
    """
    if folder.is_dir():
        shutil.rmtree(folder)  # links only: what they lead to stays
    folder.mkdir(parents=True)
    for step in steps:
        link = folder / step.run.experiment / f"seed_{step.run.seed}"
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(step.folder.resolve())
    return folder


def write_index(found: Sequence[Evidence], path: Path) -> None:
    """Write which run has which configuration and scores, for a comparison of two reports."""
    entries = {
        str(one.run.key): {
            "config_hash": one.config_hash,
            "cases_sha256": one.cases_sha256,
            "revision": one.git_revision,
        }
        for one in found
    }
    write_atomically(path, json.dumps(entries, indent=1) + "\n")
