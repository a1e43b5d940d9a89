"""What a run leaves of how well its maps find named structures: one JSON a seed."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from medzeroseg.errors import ConfigurationError
from medzeroseg.files import write_atomically

RECORD_NAME = "localisation.json"


@dataclass(frozen=True)
class StructureLocalisation:
    """How well the maps of one structure's prompt find it, over the pictures that show it.

    Attributes:
        split: `val` or `test`.
        kind: What the pictures are, e.g. `chest X-ray`.
        structure: Its name.
        pictures: How many show it.
        auc: Pixel ROC of its maps in [0, 1], mean over the pictures; 0.5 is chance.
        pointing: Share of the pictures in which the map is brightest inside it, in [0, 1].
        area: Its share of the picture, mean over the pictures: the pointing of a random place.
    """

    split: str
    kind: str
    structure: str
    pictures: int
    auc: float
    pointing: float
    area: float


@dataclass(frozen=True)
class LocalisationRecord:
    """One seed of one experiment.

    Attributes:
        experiment: Name of the experiment file.
        label: The row's name in the table.
        dataset: What was looked at.
        seed: Seed of the run.
        method: How the maps were made.
        per_kind: The most pictures of each kind and split.
        git_revision: Revision of the code, with `-dirty` where the tree had changes.
        config_hash: Hash of model, data and training settings, equal for the seeds of one configuration.
        structures: Every split, kind and structure.
    """

    experiment: str
    label: str
    dataset: str
    seed: int
    method: str
    per_kind: int
    git_revision: str
    config_hash: str
    structures: list[StructureLocalisation] = field(repr=False)

    def write(self, folder: Path) -> None:
        """Write the file into the run's folder, atomically."""
        write_atomically(folder / RECORD_NAME, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "LocalisationRecord":
        """Read what `write` wrote.

        Raises:
            ConfigurationError: The file is missing or damaged; it is named.
        """
        try:
            values = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
            values["structures"] = [StructureLocalisation(**one) for one in values["structures"]]
            return cls(**values)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"The record of a run in {folder} cannot be read ({error!r}). Evaluate that run again, or remove it."
            ) from error


def read_localisation_records(folder: Path) -> list[LocalisationRecord]:
    """All runs below a folder that looked for structures: `<folder>/[<experiment>/]seed_*`, by experiment and seed."""
    found = [*folder.glob(f"seed_*/{RECORD_NAME}"), *folder.glob(f"*/seed_*/{RECORD_NAME}")]
    records = [LocalisationRecord.read(path.parent) for path in found]
    return sorted(records, key=lambda record: (record.dataset, record.experiment, record.config_hash, record.seed))
