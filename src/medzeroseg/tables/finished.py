"""Every table that the finished runs below a folder allow."""

from pathlib import Path

from medzeroseg.tables import records, segmentation_records
from medzeroseg.tables.table1 import build_table1
from medzeroseg.tables.table2 import build_structure_table, build_table2
from medzeroseg.tables.writer import Table


def build_tables(folder: Path) -> list[Table]:
    """Build the tables for which there are records.

    Args:
        folder: An experiment's folder, or the folder of all experiments.

    Returns:
        Table 1 of retrieval runs, Table 2 and its structures of segmentation runs; none without records.

    Raises:
        ConfigurationError: A record cannot be read; it is named.
    """
    retrieval = records.read_records(folder)
    segmentation = segmentation_records.read_segmentation_records(folder)
    tables = [build_table1(retrieval)] if retrieval else []
    return tables + ([build_table2(segmentation), build_structure_table(segmentation)] if segmentation else [])


def is_finished(run: Path) -> bool:
    """Whether a run's folder holds the record of a test."""
    return any((run / name).is_file() for name in (records.RECORD_NAME, segmentation_records.RECORD_NAME))
