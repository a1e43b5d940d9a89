"""Masks from elsewhere in the place of a dataset's own: what a teacher has drawn in the training images."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from torch.utils.data import DataLoader

from data_modules.cases import BACKGROUND, IGNORE, SegmentationCase
from data_modules.numpy_lock import HEADER_LOCK
from data_modules.pairs import ImageTransform
from data_modules.screening import some
from data_modules.slice_cache import PREPROCESSING_VERSION
from data_modules.slice_cache_key import content_key, recipe
from data_modules.slices import SliceArrays, SliceDataset, SlicePreparation, SliceReader
from data_modules.splits import Split, SplitDataModule
from medzeroseg.imaging import InputError


def pseudo_mask_file(folder: Path, case: SegmentationCase) -> Path:
    """Where a case's mask lies: named by its id and by the content of its files, so that a changed case has none.

    Raises:
        InputError: A file of the case cannot be read.
    """
    digest = content_key(case.source, recipe(case.source), PREPROCESSING_VERSION)
    return folder / f"{quote(case.case_id, safe=' ()')}-{digest[:12]}.npy"


@dataclass(frozen=True, slots=True)
class ReplacedMaskReader:
    """Reads a case's images from one place and its masks from another.

    Attributes:
        images: Reads the case; its own masks are dropped.
        file: .npy, (D, H, W) uint8 label ids in the same orientation; None: no masks.
    """

    images: SliceReader
    file: Path | None

    @property
    def slice_count(self) -> int:
        """The number of slices."""
        return self.images.slice_count

    def read_slice(self, index: int) -> SliceArrays:
        """Read one slice and its other mask.

        Raises:
            InputError: The file is missing, damaged, or of another case.
        """
        own = self.images.read_slice(index)
        if self.file is None:
            return SliceArrays(own.image, None, own.spacing_mm)
        masks = self._masks()
        if masks.shape != (self.slice_count, *own.image.shape):
            raise InputError(
                f"{self.file}: masks {masks.shape} do not fit images {(self.slice_count, *own.image.shape)}; remove "
                "it, and it is made again"
            )
        return SliceArrays(own.image, np.array(masks[index]), own.spacing_mm)

    def labelled_slices(self) -> list[int]:
        """The slices that show something: neither background alone nor unknown."""
        masks = self._masks()
        shown = (masks != BACKGROUND) & (masks != IGNORE)
        numbers: list[int] = np.flatnonzero(shown.reshape(len(masks), -1).any(axis=1)).tolist()
        return numbers

    def _masks(self) -> npt.NDArray[np.uint8]:
        try:
            with HEADER_LOCK:
                masks = np.load(self.file, mmap_mode="r", allow_pickle=False)  # type: ignore[arg-type]  # never None here
        except FileNotFoundError as error:
            raise InputError(f"{self.file}: there is no such file; label the images again") from error
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{self.file}: is no array of masks ({error}); remove it, and it is made again") from error
        if masks.dtype != np.uint8:
            raise InputError(f"{self.file}: masks must be uint8, not {masks.dtype}")
        result: npt.NDArray[np.uint8] = masks
        return result


class CaseBatches:
    """A batch sampler whose batches never hold two cases: a case's batches do not depend on which others there are."""

    def __init__(self, case_of_row: npt.NDArray[np.int32], positions: Sequence[int], size: int) -> None:
        """Number the batches.

        Args:
            case_of_row: (N,) which case each row belongs to, rising.
            positions: The cases wanted.
            size: Most rows a batch.
        """
        rows = [np.flatnonzero(case_of_row == position) for position in positions]
        self.batches = [part[n : n + size].tolist() for part in rows for n in range(0, len(part), size)]

    def __iter__(self) -> Iterator[list[int]]:
        """Give each batch's rows."""
        return iter(self.batches)

    def __len__(self) -> int:
        """Count the batches."""
        return len(self.batches)


class TakesPseudoMasks(SplitDataModule[SliceDataset]):
    """A data module whose training and validation masks can be replaced, and whose images can be handed out bare.

    Knows no teacher: who draws masks asks for the images (`images_of_cases`), writes (`pseudo_mask_files`), and has
    them used (`use_pseudo_masks`).
    """

    pseudo_masks: Path | None = None
    """The folder of the masks in use; None: the dataset's own."""

    @abstractmethod
    def all_cases(self, split: Split) -> tuple[list[SegmentationCase], list[SliceReader]]:
        """List the cases of a split, with or without a reference, and what reads them."""

    def use_pseudo_masks(self, folder: Path) -> None:
        """Train, and validate while training, on the masks in a folder instead of the reference.

        Cases without a reference take part. The test split keeps its reference.

        Args:
            folder: Holds `pseudo_mask_files`.

        Raises:
            InputError: A mask is missing.
        """
        for part in ("train", "val"):
            files = self.pseudo_mask_files(part, folder)
            missing = [case for case, file in files.items() if not file.is_file()]
            if missing:
                raise InputError(
                    f"{folder}: {len(missing):,} of {len(files):,} {part} case(s) have no pseudo-mask here "
                    f"({some(missing)}); the folder must be one that every process can read"
                )
            self.datasets.pop(part, None)
        self.pseudo_masks = folder
        self.setup("fit")

    def pseudo_mask_files(self, split: Split, folder: Path) -> dict[str, Path]:
        """Map case ids of a split to where a folder holds their pseudo-masks, (D, H, W) uint8 label ids in .npy."""
        cases, _ = self.all_cases(split)
        return {case.case_id: pseudo_mask_file(folder, case) for case in cases}

    def images_of_cases(
        self, split: Split, case_ids: Sequence[str], transform: ImageTransform, size: int
    ) -> DataLoader[Any]:
        """Make batches of some cases' slices, as in testing but without masks; a batch holds one case's slices alone.

        Args:
            split: Whose cases.
            case_ids: Which of them.
            transform: The model's preprocessing.
            size: Most slices a batch.
        """
        cases, readers = self.all_cases(split)
        images = [ReplacedMaskReader(reader, None) for reader in readers]
        dataset = SliceDataset(cases, images, SlicePreparation(transform, self.image_size_px), seed=self.seed)
        wanted = frozenset(case_ids)
        batches = CaseBatches(dataset.case_of_row, [n for n, case in enumerate(cases) if case.case_id in wanted], size)
        options = self._loader_options() | {"persistent_workers": False}
        return DataLoader(dataset, batch_sampler=batches, **options)
