"""The publication's tables: records of runs, statistics, and their writing as CSV, Markdown, LaTeX and JSON."""

from medzeroseg.tables.records import RunRecord, read_records
from medzeroseg.tables.table1 import build_table1
from medzeroseg.tables.writer import Table, write_table

__all__ = ["RunRecord", "Table", "build_table1", "read_records", "write_table"]
