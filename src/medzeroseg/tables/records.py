"""What a finished run leaves for the tables: one JSON and one CSV of ranks per seed."""

import csv
import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from medzeroseg.errors import ConfigurationError
from medzeroseg.files import write_atomically

RECORD_NAME = "retrieval.json"
RANKS_NAME = "retrieval_ranks.csv"
_RANK_COLUMNS = ("full/image_to_text", "full/text_to_image", "small/image_to_text", "small/text_to_image")


@dataclass(frozen=True)
class RunRecord:
    """One seed of one experiment, evaluated on a test split.

    Attributes:
        experiment: Name of the experiment file, e.g. `phantom_cehnc`.
        label: The row's name in the table.
        dataset: What was tested on; rows of one dataset are compared with each other.
        published_row: Key of the published figures shown beside this row, or None.
        seed: Seed of the run.
        test_pairs: Size of the full gallery.
        small_gallery: Size of the small galleries.
        metrics: Top-k recall in percent, e.g. `i2t_top1`, `t2i_top2_of50`.
        fit_minutes: Wall-clock of training; 0 for a model evaluated as it is.
        test_minutes: Wall-clock of the test.
        git_revision: Revision of the code, with `-dirty` where the tree had changes.
        config_hash: Hash of model, data and training settings, equal for the seeds of one configuration.
        environment: Versions and machine.
        ranks: Case id -> its ranks (full i2t, full t2i, small i2t, small t2i; 0 = not ranked).
    """

    experiment: str
    label: str
    dataset: str
    published_row: str | None
    seed: int
    test_pairs: int
    small_gallery: int
    metrics: dict[str, float]
    fit_minutes: float
    test_minutes: float
    git_revision: str
    config_hash: str
    environment: dict[str, str]
    ranks: dict[str, tuple[int, int, int, int]] = field(repr=False)

    def write(self, folder: Path) -> None:
        """Write both files into the run's folder, atomically; the JSON last, since it makes the run count."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["case_id", *_RANK_COLUMNS])
        table.writerows([case_id, *ranks] for case_id, ranks in self.ranks.items())
        write_atomically(folder / RANKS_NAME, text.getvalue())
        values = {key: value for key, value in asdict(self).items() if key != "ranks"}
        write_atomically(folder / RECORD_NAME, json.dumps(values, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "RunRecord":
        """Read what `write` wrote.

        Raises:
            ConfigurationError: A file is missing or damaged; it is named.
        """
        try:
            values = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
            with (folder / RANKS_NAME).open(encoding="utf-8", newline="") as stream:
                rows = list(csv.DictReader(stream))
            ranks = {row["case_id"]: tuple(int(row[column]) for column in _RANK_COLUMNS) for row in rows}
            return cls(**values, ranks=ranks)  # type: ignore[arg-type]  # four columns, checked by the reader's keys
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"The record of a run in {folder} cannot be read ({error!r}). Evaluate that run again, or remove it."
            ) from error


def read_records(folder: Path) -> list[RunRecord]:
    """All finished runs below a folder: `<folder>/seed_*` or `<folder>/<experiment>/seed_*`, by experiment and seed."""
    found = [*folder.glob(f"seed_*/{RECORD_NAME}"), *folder.glob(f"*/seed_*/{RECORD_NAME}")]
    records = [RunRecord.read(path.parent) for path in found]
    return sorted(records, key=lambda record: (record.dataset, record.experiment, record.seed))
