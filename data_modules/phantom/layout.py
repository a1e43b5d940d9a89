"""What a data set must say of itself to be generated: its files, its jobs, and how each is done."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Generic, TypeVar

Job = TypeVar("Job")
Record = TypeVar("Record")


@dataclass(frozen=True, eq=False)
class Made(Generic[Record]):
    """What one job made.

    Args:
        files: Content of each file by its path relative to the phantom, with slashes.
        record: What the layout's index files need to know of it.
    """

    files: Mapping[str, bytes]
    record: Record


@dataclass(frozen=True)
class Layout(ABC, Generic[Job, Record]):
    """A data set that can be generated: its parameters are the fields, all of them in the manifest.

    A job is the work that is done at once (an item, a patient); it must be small and picklable, and what it
    makes may depend on the layout's parameters and the job alone.

    Args:
        seed: Non-negative seed.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    own_files: ClassVar[re.Pattern[str]]
    """Matches the relative paths of all files that the layout writes, and of no others."""
    chunk_jobs: ClassVar[int] = 1
    """How many jobs go to a worker process at once."""
    few_jobs: ClassVar[int] = 4
    """Below this, starting worker processes takes longer than the work."""

    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse negative numbers; layouts add what else they need.

        Raises:
            ValueError: Naming the parameter.
        """
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise ValueError(f"{field.name} must not be negative, got {getattr(self, field.name)}")

    @property
    def parameters(self) -> dict[str, Any]:
        """What the content depends on."""
        return asdict(self)

    @abstractmethod
    def folders(self) -> list[str]:
        """Folders to create, relative to the phantom."""

    @abstractmethod
    def jobs(self) -> list[Job]:
        """All jobs in a fixed order."""

    @abstractmethod
    def size_of(self, job: Job) -> int:
        """How many items a job makes, for the progress bar."""

    @abstractmethod
    def make(self, job: Job) -> Made[Record]:
        """Do one job."""

    @abstractmethod
    def finish(self, records: list[Record]) -> tuple[Mapping[str, bytes], dict[str, Any]]:
        """Return the files that speak of all jobs, and entries for the manifest.

        Args:
            records: Those of all jobs, in their order.
        """
