"""How well maps find named structures: a row for each experiment, and one for each structure."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from statistics import fmean, stdev

from medzeroseg.tables.localisation_records import LocalisationRecord, StructureLocalisation
from medzeroseg.tables.writer import Table

SPLITS = ("val", "test")
_FIGURES = {"auc": "AUC", "pointing": "pointing"}
_NOTES = (
    "AUC: pixel ROC of the map of a structure's prompt, chance is 0.50 and a map that points away is below. Pointing: "
    "share of the pictures whose map is brightest inside the structure, and in brackets that of a random place. "
    "Means over pictures that show the structure, then over structures.",
    "Label maps score the maps and nothing else here. What a model was trained on, its experiment says: the windows of "
    "training pictures (PresenceLoss) take names, not places, from label maps.",
    "With several seeds: mean ± sample standard deviation over them.",
)


def build_localisation_table(records: Sequence[LocalisationRecord]) -> Table:
    """A row for each experiment and configuration, its seeds together.

    Args:
        records: Of any experiments and datasets, as `read_localisation_records` orders them.

    Returns:
        The table; without rows if there are no records.
    """
    named = [f"{title}, {split}" for split in SPLITS for title in _FIGURES.values()]
    table = Table(
        name="localisation",
        caption="Localisation: do the maps lie where the named structures are?",
        columns=["Dataset", "Model", "Map", *named, "Structures", "Seeds", "Revision", "Config"],
        rows=[],
        notes=list(_NOTES),
        screen_columns=("Dataset", "Model", *named, "Seeds"),
    )
    for runs in _by_configuration(records):
        first = runs[0]
        values: dict[str, object] = {"seeds": [run.seed for run in runs]}
        cells = []
        for split in SPLITS:
            of_split = [[one for one in run.structures if one.split == split] for run in runs]
            for name in _FIGURES:
                means = [_mean(found, name) for found in of_split if found]
                values[f"{split}_{name}"] = means
                by_chance = _mean(of_split[0], "area") if means and name == "pointing" else None
                cells.append(_spread(means) + ("" if by_chance is None else f" ({by_chance:.2f})"))
        count = len({(one.kind, one.structure) for one in first.structures})
        revisions = sorted({run.git_revision for run in runs})
        identity = {"dataset": first.dataset, "experiment": first.experiment, "label": first.label}
        table.values.append(identity | {"map": first.method, "structures": count, "git_revisions": revisions} | values)
        table.rows.append(
            [
                *(first.dataset, first.label, first.method, *cells, str(count)),
                ", ".join(str(run.seed) for run in runs),
                ", ".join(r[:8] + ("*" if r.endswith("-dirty") else "") for r in revisions),
                first.config_hash,
            ]
        )
    return table


def build_localisation_structures(records: Sequence[LocalisationRecord]) -> Table:
    """A row for each experiment and structure, over its seeds.

    Args:
        records: As `build_localisation_table` takes them.

    Returns:
        The table; without rows if there are no records.
    """
    named = [f"{title}, {split}" for split in SPLITS for title in (*_FIGURES.values(), "its area", "pictures")]
    table = Table(
        name="localisation_structures",
        caption="Localisation by structure.",
        columns=["Dataset", "Model", "Picture", "Structure", *named],
        rows=[],
        notes=list(_NOTES),
        screen_columns=("Model", "Picture", "Structure", *(f"{t}, {s}" for s in SPLITS for t in _FIGURES.values())),
    )
    for runs in _by_configuration(records):
        first = runs[0]
        identity = {"dataset": first.dataset, "experiment": first.experiment, "label": first.label}
        for kind, structure in dict.fromkeys((one.kind, one.structure) for run in runs for one in run.structures):
            values: dict[str, object] = {"kind": kind, "structure": structure, "seeds": [run.seed for run in runs]}
            cells = []
            for split in SPLITS:
                key = (split, kind, structure)
                found = [one for run in runs for one in run.structures if (one.split, one.kind, one.structure) == key]
                for name in (*_FIGURES, "area"):
                    values[f"{split}_{name}"] = figures = [getattr(one, name) for one in found]
                    cells.append(_spread(figures))
                values[f"{split}_pictures"] = found[0].pictures if found else 0
                cells.append(str(values[f"{split}_pictures"]))
            table.values.append(identity | values)
            table.rows.append([first.dataset, first.label, kind, structure, *cells])
    return table


def _by_configuration(records: Sequence[LocalisationRecord]) -> Iterator[list[LocalisationRecord]]:
    for _, group in groupby(records, key=lambda r: (r.dataset, r.experiment, r.config_hash, r.method)):
        yield list(group)


def _mean(found: Sequence[StructureLocalisation], figure: str) -> float:
    return fmean(getattr(one, figure) for one in found)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{fmean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")
