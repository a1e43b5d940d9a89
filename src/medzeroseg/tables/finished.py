"""Every table that the finished runs below a folder allow."""

from pathlib import Path

from medzeroseg.tables import records, segmentation_records
from medzeroseg.tables.localisation import build_localisation_structures, build_localisation_table
from medzeroseg.tables.localisation_records import read_localisation_records
from medzeroseg.tables.table1 import build_table1
from medzeroseg.tables.table2 import build_structure_table, build_table2
from medzeroseg.tables.table3 import build_table3, build_table3_structures
from medzeroseg.tables.writer import Table


def build_tables(folder: Path) -> list[Table]:
    """Build the tables for which there are records.

    Args:
        folder: An experiment's folder, or the folder of all experiments.

    Returns:
        Table 1 of retrieval runs, Tables 2 and 3 and their structures of segmentation runs, and how well the maps of
        contrastive runs localise; none without rows.

    Raises:
        ConfigurationError: A record cannot be read, or rows of Table 3 have different test cases; they are named.
    """
    retrieval = records.read_records(folder)
    segmentation = segmentation_records.read_segmentation_records(folder)
    localisation = read_localisation_records(folder)
    builders = (build_table2, build_structure_table, build_table3, build_table3_structures)
    tables = [build_table1(retrieval)] if retrieval else []
    tables += [build(segmentation) for build in builders]
    tables += [build(localisation) for build in (build_localisation_table, build_localisation_structures)]
    return [table for table in tables if table.rows]


def is_finished(run: Path) -> bool:
    """Whether a run's folder holds the record of a test."""
    return any((run / name).is_file() for name in (records.RECORD_NAME, segmentation_records.RECORD_NAME))
