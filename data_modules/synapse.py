"""Synapse multi-organ CT: 30 abdominal scans with up to 13 outlined organs (BTCV)."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data_modules.cases import BACKGROUND, CaseArrays, CaseIndex, CaseSource, SegmentationCase
from data_modules.listing import require_root
from data_modules.screening import check_share, hold_out, some
from data_modules.segmentation import SegmentationDataModule
from data_modules.splits import Split
from data_modules.synapse_files import find_form, find_preprocessed, find_raw
from data_modules.synapse_labels import (
    CONVENTIONS,
    LABEL_NAMES,
    STORED_AXES,
    Convention,
    StoredAxes,
    axes_fault,
    convention_fault,
    count_voxels,
    lookup_table,
    turn_to_display,
)
from medzeroseg.imaging import WINDOWS_HU, FixedWindow, InputError

SynapseSplit = Literal["transunet", "publication"]

CASES = frozenset((*range(1, 11), *range(21, 41)))
"""The labelled cases: img0001-img0010 and img0021-img0040."""
# Chen et al., TransUNet (2021): lists/lists_Synapse/test_vol.txt of its repository; the other 18 train.
TRANSUNET_TEST_CASES = frozenset((1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38))

WINDOW_HU = WINDOWS_HU["transunet"]
"""TransUNet's clipping, -125 to 275 Hounsfield units."""

HOW_TO_GET = (
    "The scans are obtained from Synapse (syn3193805, Beyond the Cranial Vault: free registration, agree to the "
    "terms of use), as RawData/Training/{img,label}; TransUNet's preprocessed form (train_npz, test_vol_h5) from the "
    "authors of TransUNet, under the same terms. Nothing is downloaded from here. "
    "To try the project without them, run the phantom, which needs no data: make train EXP=phantom_cehnc"
)


@dataclass(frozen=True, slots=True)
class SynapseCase:
    """A volume with its labels checked and in the wanted convention.

    Attributes:
        source: Reads the volume as stored.
        labels: Convention of the stored ids.
        organs: Convention of the ids given.
        preprocessed: The intensities are [0, 1] for -125..275 HU.
        stored_axes: Where rows and columns of a preprocessed slice run.
        check: Whether sizes and places of the organs must fit the convention and the axes.
    """

    source: CaseSource
    labels: Convention
    organs: Convention
    preprocessed: bool = False
    stored_axes: StoredAxes = "PL"
    check: bool = True

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of the volume."""
        return self.source.files

    @property
    def has_reference(self) -> bool:
        """Whether it has labels."""
        return self.source.has_reference

    def read(self) -> CaseArrays:
        """Decode: the image in Hounsfield units, (D, H, W), the labels in the ids of `organs`.

        Raises:
            InputError: A file cannot be read, holds ids that the convention lacks, or the organs do not fit it.
        """
        arrays = self.source.read()
        image, mask = arrays.image, arrays.mask
        if self.preprocessed:
            low, high = WINDOW_HU
            image = turn_to_display(
                image.astype(np.float32) * np.float32(high - low) + np.float32(low), self.stored_axes
            )
            mask = None if mask is None else turn_to_display(mask, self.stored_axes).astype(np.uint8)
        if mask is not None:
            self._check(mask)
            mask = lookup_table(self.labels, self.organs)[mask]
        return CaseArrays(image, mask, arrays.spacing_mm)

    def _check(self, mask: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        counts = count_voxels(mask)
        names = LABEL_NAMES[self.labels]
        unknown = [label for label in np.flatnonzero(counts).tolist() if label not in names and label != BACKGROUND]
        if unknown:
            raise InputError(
                f"{self.files[-1]}: the label map holds {some(map(str, unknown))}, {self.labels} has the ids 1 to "
                f"{len(names)}; choose the convention of the files with labels={' | '.join(CONVENTIONS)}"
            )
        if not self.check:
            return
        fault = convention_fault(counts, self.labels)
        if fault is None and self.preprocessed:
            fault = axes_fault(mask, self.labels, self.stored_axes)
        if fault is not None:
            raise InputError(
                f"{self.files[-1]}: {fault}. If the labels are right and the patient is unusual or shown in part only, "
                "set check_labels=false"
            )


class SynapseDataModule(SegmentationDataModule):
    """Synapse multi-organ CT.

    Features: 30 contrast-enhanced abdominal CT scans, 512 x 512 pixels, 85 to 198 slices, with 13 organs outlined.

    Format: either form, found by itself.

        root/                                    raw; also RawData/Training, Training or Abdomen of it
        ├── img/img0001.nii.gz                   Hounsfield units
        └── label/label0001.nii.gz               labels: btcv13

        root/                                    preprocessed by TransUNet or SAMed; also data/Synapse of it
        ├── train_npz/case0005_slice000.npz      image in [0, 1], label
        ├── test_vol_h5/case0001.npy.h5          the same, whole volumes
        └── lists_Synapse/{train,test_vol}.txt   may be absent

    Labels: three conventions are about, and ids mean other organs in each. `labels` says which one the files have,
    `organs` which one is wanted; ids are exchanged by a lookup table. Each volume is checked: the liver must be the
    largest organ, and no other convention may fit the organs' sizes clearly better.

    The preprocessed form has lost the spacing (`spacing_mm` is NaN: distances are in pixels) and says not how its
    slices lie: `stored_axes` does, and is checked against the places of the organs. Its intensities are scaled back
    to Hounsfield units, so that both forms have one window.

    Splits: "transunet", 18 training cases, of which `validation_share` validates, and 12 test cases (Chen et al.,
    2021). "publication": all 30 test (PLOS ONE 21(3) e0344978, n = 30); which cases trained its supervised rows it
    does not say, so there is no training split.

    Licence: Synapse's terms of use; not to be redistributed.

    Source: Landman et al., MICCAI Multi-Atlas Labeling Beyond the Cranial Vault, 2015, doi 10.7303/syn3193805.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        split: SynapseSplit = "transunet",
        labels: Convention | None = None,
        organs: Convention = "transunet8",
        stored_axes: StoredAxes = "PL",
        check_labels: bool = True,
        validation_share: float = 0.15,
        **options: Any,  # noqa: ANN401 - the base's arguments; the command line reads their types there
    ) -> None:
        """Set up the module; see `SegmentationDataModule` for the arguments not listed.

        Args:
            root: The folder of either form.
            split: Which cases train and test.
            labels: Convention of the files: by default btcv13 in the raw form, transunet8 in the preprocessed one.
            organs: Convention of the masks given: transunet8 and samed8 are the literature's eight organs in two
                orders, btcv13 all thirteen (raw form only).
            stored_axes: Directions in which rows and columns of the preprocessed form run, towards the patient's
                front (A), back (P), left (L) or right (R). "PL" is as radiologists look at it; slices cut from the
                raw files without turning them, as SAMed's script does, are "AL" where the files count leftwards.
            check_labels: Check each volume against `labels` and `stored_axes`.
            validation_share: Part of the training cases that validates, chosen by a hash of their numbers.
            **options: Passed on.

        Raises:
            ValueError: An argument is out of range, or `organs` wants organs that `labels` lacks.
        """
        super().__init__(root, **options)
        for name, value, known in (
            ("split", split, ("transunet", "publication")),
            ("labels", labels, (None, *CONVENTIONS)),
            ("organs", organs, CONVENTIONS),
            ("stored_axes", stored_axes, STORED_AXES),
        ):
            if value not in known:
                raise ValueError(f"{name}: '{value}' is unknown; known are {', '.join(map(str, known))}")
        check_share("validation_share", validation_share)
        if labels is not None:
            lookup_table(labels, organs)
        self.split, self.labels, self.organs = split, labels, organs
        self.stored_axes, self.check_organs = stored_axes, check_labels
        self.validation_share = validation_share

    @property
    def label_names(self) -> dict[int, str]:
        """The organs of the `organs` convention."""
        return dict(LABEL_NAMES[self.organs])

    @property
    def modality(self) -> str:
        """Abdominal CT."""
        return "abdominal CT"

    @property
    def window(self) -> FixedWindow:
        """-125 to 275 HU."""
        return FixedWindow(*WINDOW_HU)

    def index_split(self, split: Split) -> CaseIndex:
        """List the cases of a split.

        Raises:
            InputError: Neither form is there, or the split has no cases by definition.
        """
        if self.split == "publication" and split != "test":
            raise InputError(
                f"{self.title}: split=publication tests on all 30 cases, there is no {split} split; "
                "train with split=transunet"
            )
        require_root(self.root, self.title, HOW_TO_GET)
        form = find_form(self.root)
        if form is None:
            raise InputError(
                f"{self.title}: {self.root} holds neither img and label (raw form) nor train_npz or test_vol_h5. "
                f"{HOW_TO_GET}"
            )
        kind, folder = form
        labels: Convention = self.labels or ("btcv13" if kind == "raw" else "transunet8")
        skipped: Counter[str] = Counter()
        found = find_raw(folder, skipped) if kind == "raw" else find_preprocessed(folder, self.root, skipped)
        wanted = self._numbers(split)
        skipped["listed cases that are not there"] = len(wanted - found.keys())
        skipped["cases that no split lists"] = len(found.keys() - CASES)
        try:
            lookup_table(labels, self.organs)
        except ValueError as error:
            raise InputError(f"{self.title}: {folder} is labelled in {labels}: {error}") from error
        cases = []
        for number in sorted(wanted & found.keys()):
            source = SynapseCase(
                found[number], labels, self.organs, kind == "preprocessed", self.stored_axes, self.check_organs
            )
            case_id = f"case{number:04d}"
            cases.append(SegmentationCase(case_id, case_id, source))
        return CaseIndex(cases, dict(skipped))

    def _numbers(self, split: Split) -> frozenset[int]:
        if self.split == "publication":
            return CASES
        if split == "test":
            return TRANSUNET_TEST_CASES
        train = CASES - TRANSUNET_TEST_CASES
        held = hold_out((f"case{number:04d}" for number in train), self.validation_share, "synapse")
        validation = frozenset(number for number in train if f"case{number:04d}" in held)
        return validation if split == "val" else train - validation
