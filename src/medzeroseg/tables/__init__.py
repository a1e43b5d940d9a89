"""The publication's tables: records of runs, statistics, and their writing as CSV, Markdown, LaTeX and JSON."""

from medzeroseg.tables.finished import build_tables, is_finished
from medzeroseg.tables.records import RunRecord, read_records
from medzeroseg.tables.segmentation_records import SegmentationRecord, read_segmentation_records
from medzeroseg.tables.table1 import build_table1
from medzeroseg.tables.table2 import build_structure_table, build_table2
from medzeroseg.tables.table3 import build_table3, build_table3_structures
from medzeroseg.tables.writer import Table, write_table

__all__ = [
    "RunRecord",
    "SegmentationRecord",
    "Table",
    "build_structure_table",
    "build_table1",
    "build_table2",
    "build_table3",
    "build_table3_structures",
    "build_tables",
    "is_finished",
    "read_records",
    "read_segmentation_records",
    "write_table",
]
