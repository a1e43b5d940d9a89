"""The table of localisation over seeds and experiments."""

from pathlib import Path

import pytest

from medzeroseg.errors import ConfigurationError
from medzeroseg.tables.localisation import build_localisation_structures, build_localisation_table
from medzeroseg.tables.localisation_records import (
    RECORD_NAME,
    LocalisationRecord,
    StructureLocalisation,
    read_localisation_records,
)


def write(root: Path, experiment: str, seed: int, auc: float) -> None:
    structures = [
        StructureLocalisation("val", "CT", "liver", 3, auc, 1.0, 0.2),
        StructureLocalisation("val", "CT", "spleen", 2, auc - 0.2, 0.0, 0.1),
        StructureLocalisation("test", "CT", "liver", 4, 0.5, 0.25, 0.2),
    ]
    record = LocalisationRecord(experiment, experiment, "phantom", seed, "evidence", 3, "abc", "cfg", structures)
    record.write(root / experiment / f"seed_{seed}")


def test_structures_are_averaged_then_seeds(tmp_path: Path) -> None:
    write(tmp_path, "a", 0, 0.8)
    write(tmp_path, "a", 1, 0.9)
    write(tmp_path, "b", 0, 0.7)
    table = build_localisation_table(read_localisation_records(tmp_path))
    cells = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [(row["Model"], row["Seeds"], row["Structures"]) for row in cells] == [("a", "0, 1", "2"), ("b", "0", "2")]
    assert cells[0]["AUC, val"] == "0.750 ± 0.071"  # 0.7 and 0.8
    assert cells[1]["AUC, val"] == "0.600"
    assert cells[1]["pointing, val"] == "0.500 (0.15)"  # a random place hits with the structures' mean area
    assert cells[1]["pointing, test"] == "0.250 (0.20)"
    by_structure = build_localisation_structures(read_localisation_records(tmp_path))
    rows = {(row[1], row[3]): dict(zip(by_structure.columns, row, strict=True)) for row in by_structure.rows}
    assert rows["b", "spleen"]["AUC, val"] == "0.500"
    assert rows["b", "spleen"]["AUC, test"] == "-"
    assert rows["b", "liver"]["pictures, test"] == "4"


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a", 0, 0.8)
    (tmp_path / "a" / "seed_0" / RECORD_NAME).write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="seed_0"):
        read_localisation_records(tmp_path)
