"""The data module that all labelled sets share: cases, their label map, patients, slices."""

import logging
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from data_modules.cases import BACKGROUND, IGNORE, CaseIndex, LabelCheck, SegmentationCase
from data_modules.pairs import ImageTransform, SquareResize, Tokenizer
from data_modules.pseudo_masks import ReplacedMaskReader, TakesPseudoMasks, pseudo_mask_file
from data_modules.screening import some
from data_modules.seeding import seeded
from data_modules.slice_cache import SliceCache, default_cache_folder
from data_modules.slices import (
    Augmentation,
    CachedReader,
    PictureReader,
    SliceCollate,
    SliceDataset,
    SlicePreparation,
    SliceReader,
)
from data_modules.splits import BadInput, Part, Split
from medzeroseg.imaging import InputError, Window

__all__ = ["SegmentationDataModule", "Split"]

log = logging.getLogger(__name__)


class SegmentationDataModule(TakesPseudoMasks):
    """Labelled volumes or pictures in three splits by patient; a subclass says which there are (`index_split`).

    A row is a 2-D slice, as in the literature's protocols: inference slice by slice, scores per volume. Outside
    training the rows come in the dataset's order, the slices of a case one after the other. Volumes are decoded once,
    in parallel, at `setup` (see `data_modules.slice_cache`); pictures are read from their own files.

    The task hands over the model's preprocessing with `attach_model`. Without it batches hold plainly resized images
    in [0, 1]. Batch keys: see `SliceCollate`.
    """

    unit = "case"
    row = "slice"
    parts_of_stage: Mapping[str | None, tuple[Part, ...]] = {  # type: ignore[misc]  # a class variable there, too
        "fit": ("train", "val"),
        "validate": ("val",),
        "test": ("test",),
        "predict": ("predict",),
        None: ("train", "val", "test"),
    }

    def __init__(
        self,
        root: Path | str,
        *,
        batch_size: int = 16,
        max_train_cases: int | None = None,
        max_val_cases: int | None = None,
        max_test_cases: int | None = None,
        missing_reference: BadInput = "error",
        empty_slices: Literal["keep", "skip"] = "keep",
        cache_dir: Path | str | None = None,
        augmentation: Augmentation | None = None,
        **options: Any,  # noqa: ANN401 - the base's arguments; the command line reads their types there
    ) -> None:
        """Set up the module; see `SplitDataModule` for the arguments not listed.

        Args:
            root: The dataset's folder.
            batch_size: Training slices a batch and process.
            max_train_cases: Use at most so many training cases.
            max_val_cases: Use at most so many validation cases.
            max_test_cases: Use at most so many test cases.
            missing_reference: What to do with cases without a reference: stop, or leave them out and report.
                Prediction keeps them.
            empty_slices: Whether training slices that show no structure are used.
            cache_dir: Where decoded volumes are kept; by default `.medzeroseg_cache` under `root` where that can be
                written, else the user's cache folder.
            augmentation: Changes training slices and their masks; none by default.
            **options: Passed on.

        Raises:
            ValueError: A number is out of range; names the argument.
        """
        super().__init__(
            root,
            limits={"train": max_train_cases, "val": max_val_cases, "test": max_test_cases},
            batch_size=batch_size,
            **options,
        )
        self.missing_reference = missing_reference
        self.empty_slices = empty_slices
        self.augmentation = augmentation
        self.cache = SliceCache(default_cache_folder(self.root) if cache_dir is None else Path(cache_dir).expanduser())
        self.train_transform: ImageTransform = SquareResize(self.image_size_px)
        self.eval_transform: ImageTransform = SquareResize(self.image_size_px)
        self._split_of_patient: dict[str, Split] = {}
        self._split_of_case: dict[str, Split] = {}

    @property
    @abstractmethod
    def label_names(self) -> dict[int, str]:
        """Label id (1..254) to the structure's name, in the words used in prompts; ids exclude one another."""

    @property
    def label_parts(self) -> dict[str, tuple[int, ...]]:
        """Structure to the label ids whose union it is, in the order in which structures are scored."""
        return {name: (label,) for label, name in self.label_names.items()}

    @property
    @abstractmethod
    def modality(self) -> str:
        """What the images are, in the words used in prompts: "cardiac MRI"."""

    @property
    @abstractmethod
    def window(self) -> Window:
        """How intensities become grey levels in [0, 1]."""

    @property
    def pictures(self) -> bool:
        """Whether every case is one picture: read from its own file, not cached."""
        return False

    @abstractmethod
    def index_split(self, split: Split) -> CaseIndex:
        """Find the cases of a split without decoding them; limits are not applied, cases without a reference stay.

        Raises:
            InputError: The split is not there; says what is missing, how to get it and its terms.
        """

    def attach_model(
        self, train_transform: ImageTransform, eval_transform: ImageTransform, tokenizer: Tokenizer | None = None
    ) -> None:
        """Use a model's own preprocessing; call it before the loaders are made.

        Args:
            train_transform: PIL picture (RGB, square) to float (3, H, W). It must not be random: it would move the
                picture but not its mask. Give the evaluation transform, and change slices by `augmentation`.
            eval_transform: The same for validation, test and prediction.
            tokenizer: Not used: batches hold no text. There so that tasks treat all data modules alike.

        Raises:
            ValueError: `train_transform` is random.
        """
        _require_no_chance(train_transform)
        self.train_transform, self.eval_transform = train_transform, eval_transform
        for part, dataset in self.datasets.items():
            dataset.preparation = self._preparation(part)

    def make_dataset(self, part: Part, skipped: dict[str, int]) -> SliceDataset:
        """Index the cases of a part, check them, and decode those that are not in the cache."""
        split: Split = "test" if part == "predict" else part
        index = self.index_split(split)
        skipped |= index.skipped
        self._require_separate(split, index.cases)
        masks = self.pseudo_masks if part in ("train", "val") else None
        needs_reference = part != "predict" and masks is None
        cases = self._with_reference(split, index.cases, skipped) if needs_reference else index.cases
        cases = self.limited(split, cases, skipped)
        cases, readers = self._readable(split, cases, skipped)
        if masks is not None:
            readers = [
                ReplacedMaskReader(reader, pseudo_mask_file(masks, case))
                for case, reader in zip(cases, readers, strict=True)
            ]
        keep = None
        if part == "train" and self.empty_slices == "skip":
            keep = [self._labelled(reader) for reader in readers]
            kept = sum(map(len, keep))
            skipped["slices in which nothing is outlined"] = sum(reader.slice_count for reader in readers) - kept
            if not kept:
                raise InputError(f"{self.title}: no training slice under {self.root} shows a structure")
        return SliceDataset(cases, readers, self._preparation(part), seed=self.seed, native=part != "train", keep=keep)

    def collate(self) -> Callable[[Any], dict[str, Any]]:
        """Make batches of slices."""
        return SliceCollate(self.label_names)

    def case_of_row(self, part: Part) -> npt.NDArray[np.int32]:
        """The case of each slice."""
        return self.datasets[part].case_of_row

    def cases(self, part: Part) -> list[SegmentationCase]:
        """List the cases of a split (or of "predict") that is set up, in the dataset's order."""
        return self.datasets[part].cases

    def summary(self, part: Part) -> str:
        """Count cases, patients and slices."""
        dataset = self.datasets[part]
        patients = len({case.patient for case in dataset.cases})
        return f"{len(dataset.cases):,} cases of {patients:,} patients, {len(dataset):,} slices"

    @property
    def label_check(self) -> LabelCheck:
        """Refuses label ids that the dataset does not have."""
        return LabelCheck(self.label_names)

    def _preparation(self, part: Part) -> SlicePreparation:
        train = part == "train"
        return SlicePreparation(
            transform=self.train_transform if train else self.eval_transform,
            side_px=self.image_size_px,
            augmentation=self.augmentation if train else None,
        )

    def _require_separate(self, split: Split, cases: Sequence[SegmentationCase]) -> None:
        repeated = [name for name, count in Counter(case.case_id for case in cases).items() if count > 1]
        if repeated:
            raise InputError(
                f"{self.title}: several cases of the {split} split under {self.root} have the id {some(repeated)}; "
                "ids must tell cases apart: rename the files or remove the copies"
            )
        for case in cases:
            other = self._split_of_patient.get(case.patient, split)
            if other != split or self._split_of_case.get(case.case_id, split) != split:
                raise InputError(
                    f"{self.title}: patient {case.patient} (case {case.case_id}) is in the {other} and in the {split} "
                    "split; split by patient, or the scores are of no worth"
                )
        self._split_of_patient |= dict.fromkeys((case.patient for case in cases), split)
        self._split_of_case |= dict.fromkeys((case.case_id for case in cases), split)

    def _with_reference(
        self, split: Split, cases: list[SegmentationCase], skipped: dict[str, int]
    ) -> list[SegmentationCase]:
        without = [case.case_id for case in cases if not case.source.has_reference]
        if without and self.missing_reference == "error":
            raise InputError(
                f"{self.title}: {len(without):,} case(s) of the {split} split under {self.root} have no reference "
                f"({some(without)}); add their label maps, or leave them out with missing_reference=skip"
            )
        skipped["cases without a reference"] = len(without)
        return [case for case in cases if case.source.has_reference]

    def all_cases(self, split: Split) -> tuple[list[SegmentationCase], list[SliceReader]]:
        """List the cases of a split, with or without a reference, and what reads them."""
        cases = self.limited(split, self.index_split(split).cases, {})
        return self._readable(split, cases, {})

    def _readable(
        self, split: Split, cases: list[SegmentationCase], skipped: dict[str, int]
    ) -> tuple[list[SegmentationCase], list[SliceReader]]:
        readers: list[SliceReader | InputError] = self.cache.open_all(cases, self._open, self.title)
        failures = [reader for reader in readers if isinstance(reader, InputError)]
        if failures:
            skipped["unreadable cases"] = len(failures)
            log.warning("left out %d unreadable case(s): %s", len(failures), some(map(str, failures)))
        good = [(c, r) for c, r in zip(cases, readers, strict=True) if not isinstance(r, InputError)]
        if not good:
            raise InputError(f"{self.title}: no case of the {split} split under {self.root} can be read: {failures[0]}")
        return [case for case, _ in good], [reader for _, reader in good]

    def _open(self, case: SegmentationCase) -> SliceReader | InputError:
        try:
            if self.pictures:
                picture = PictureReader(case.source, self.label_check, self.window)
                if self.corrupt == "skip":
                    picture.read_slice(0)
                return picture
            cached = self.cache.open(case.source)
            self.label_check(case.source, cached.voxels_of_label)
        except InputError as error:
            named = InputError(f"case {case.case_id}: {error}")
            if self.corrupt == "error":
                raise named from error
            return named
        return CachedReader(cached, cached.fixed(self.window))

    def _labelled(self, reader: SliceReader) -> list[int]:
        if isinstance(reader, ReplacedMaskReader):
            return reader.labelled_slices()
        if isinstance(reader, CachedReader):
            return [number for number, labelled in enumerate(reader.case.labelled_slices) if labelled]
        mask = reader.read_slice(0).mask
        return [0] if mask is not None and ((mask != BACKGROUND) & (mask != IGNORE)).any() else []


def _require_no_chance(transform: ImageTransform) -> None:
    ramp = Image.linear_gradient("L").convert("RGB")
    results = []
    for key in ("one", "other"):
        with seeded(key):
            results.append(transform(ramp))
    if not torch.equal(*results):
        raise ValueError(
            "train_transform is random: it would move the picture but not its mask; give the evaluation transform "
            "and change slices by the data module's augmentation"
        )
