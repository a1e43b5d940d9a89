"""What a finished segmentation run leaves for Tables 2 and 3: one JSON, and one CSV of scores by case and structure."""

import csv
import io
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass, field, fields
from pathlib import Path

from medzeroseg.errors import ConfigurationError
from medzeroseg.files import write_atomically

RECORD_NAME = "segmentation.json"
CASES_NAME = "segmentation_cases.csv"
LABELS_NOTE = (
    "Labels used: `to choose it (validation)` where no mask taught a row, but masks of validation cases chose it, or "
    "its teacher, among variants."
)
"""Below a table with `MethodResult.labels_in_words`."""
PUBLISHED_ON = {"acdc": "ACDC", "synapse": "Synapse", "covid_qu_ex": "COVID-QU-Ex"}
"""Dataset of `SegmentationRecord.published_row` to its name; the record's own may be another, e.g. its phantom."""


@dataclass(frozen=True)
class CaseScore:
    """One structure in one case, segmented by one method.

    Attributes:
        method: Key of the method in the run, e.g. `gscorecam`.
        case_id: The case.
        structure: The structure's name.
        dsc: Dice similarity coefficient in [0, 1]; NaN where reference and prediction are both empty.
        iou: Intersection over union, likewise.
        auc: Pixel ROC of the saliency map in [0, 1]; NaN where the structure is absent.
        pointing: Share of the structure's slices whose brightest point lies inside it; NaN where it is absent.
        reference_voxels: Size of the reference.
        predicted_voxels: Size of the prediction.
        hd95: 95th percentile of the surface distance, in `unit`; the image's diagonal where one of reference and
            prediction is empty, NaN where both are or where it was not measured.
        nsd: Normalised surface distance in [0, 1]; 0 and NaN in these cases.
        unit: `mm`, or `px` where the case's spacing is lost.
    """

    method: str
    case_id: str
    structure: str
    dsc: float
    iou: float
    auc: float
    pointing: float
    reference_voxels: int
    predicted_voxels: int
    hd95: float = math.nan
    nsd: float = math.nan
    unit: str = "mm"


@dataclass(frozen=True)
class MethodResult:
    """One method of a run.

    Attributes:
        method: Its key, e.g. `gscorecam`.
        title: Its name in the table, e.g. `gScoreCAM`.
        layer: Where the saliency was taken from; `-` for a baseline.
        minutes: Wall-clock for all cases, image pass included.
        labels_used: Whether masks taught it, or its prompts tell what they show.
        reveals_ground_truth: Whether its prompts say what only the reference of a test case knows.
        baseline: Whether it is there to be beaten: no image was understood.
        table3_row: Key of its row in Table 3 (`table3.ROWS`), or None.
        chosen_on_validation: Whether it, or its teacher, was chosen among variants by masks of validation cases.
    """

    method: str
    title: str
    layer: str
    minutes: float
    labels_used: bool = False
    reveals_ground_truth: bool = False
    baseline: bool = False
    table3_row: str | None = None
    chosen_on_validation: bool = False

    @property
    def labels_in_words(self) -> str:
        """The cell `Labels used` of a table."""
        return "yes" if self.labels_used else "to choose it (validation)" if self.chosen_on_validation else "no"


@dataclass(frozen=True)
class SegmentationRecord:
    """One seed of one experiment, evaluated on a labelled split.

    Attributes:
        experiment: Name of the experiment file, e.g. `acdc_zeroshot`.
        label: The model's name in the table.
        dataset: What was segmented.
        published_row: `<dataset>/<model>` of the published figures shown beside, or None; the dataset is one of
            `PUBLISHED_ON`.
        seed: Seed of the run.
        methods: What was compared, in the table's order.
        git_revision: Revision of the code, with `-dirty` where the tree had changes.
        config_hash: Hash of model, data and settings, equal for the seeds of one configuration.
        environment: Versions and machine.
        scores: Every method, case and structure.
        supervision: `zero-shot`, `weak` or `full`.
        nsd_tolerance: Tolerance of the NSD, in the unit of each score; None: not measured.
    """

    experiment: str
    label: str
    dataset: str
    published_row: str | None
    seed: int
    methods: list[MethodResult]
    git_revision: str
    config_hash: str
    environment: dict[str, str]
    scores: list[CaseScore] = field(repr=False)
    supervision: str = "zero-shot"
    nsd_tolerance: float | None = None

    def write(self, folder: Path) -> None:
        """Write both files into the run's folder, atomically; the JSON last, since it makes the run count."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(field.name for field in fields(CaseScore))
        table.writerows(astuple(score) for score in self.scores)
        write_atomically(folder / CASES_NAME, text.getvalue())
        values = {key: value for key, value in asdict(self).items() if key != "scores"}
        write_atomically(folder / RECORD_NAME, json.dumps(values, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "SegmentationRecord":
        """Read what `write` wrote.

        Raises:
            ConfigurationError: A file is missing or damaged; it is named.
        """
        try:
            values = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
            values["methods"] = [MethodResult(**method) for method in values["methods"]]
            with (folder / CASES_NAME).open(encoding="utf-8", newline="") as stream:
                scores = [_case_score(row) for row in csv.DictReader(stream)]
            return cls(**values, scores=scores)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"The record of a run in {folder} cannot be read ({error!r}). Evaluate that run again, or remove it."
            ) from error


def read_segmentation_records(folder: Path) -> list[SegmentationRecord]:
    """All finished segmentation runs below a folder: `<folder>/[<experiment>/]seed_*`, by dataset, experiment, seed."""
    found = [*folder.glob(f"seed_*/{RECORD_NAME}"), *folder.glob(f"*/seed_*/{RECORD_NAME}")]
    records = [SegmentationRecord.read(path.parent) for path in found]
    return sorted(records, key=lambda record: (record.dataset, record.experiment, record.seed))


def scores_of(scores: Iterable[CaseScore], method: str) -> list[CaseScore]:
    """The scores of one method."""
    return [score for score in scores if score.method == method]


def _case_score(row: dict[str, str]) -> CaseScore:
    return CaseScore(
        method=row["method"],
        case_id=row["case_id"],
        structure=row["structure"],
        dsc=float(row["dsc"]),
        iou=float(row["iou"]),
        auc=float(row["auc"]),
        pointing=float(row["pointing"]),
        reference_voxels=int(row["reference_voxels"]),
        predicted_voxels=int(row["predicted_voxels"]),
        # a record from before these were measured has no such columns
        hd95=float(row.get("hd95", math.nan)),
        nsd=float(row.get("nsd", math.nan)),
        unit=row.get("unit", "mm"),
    )
