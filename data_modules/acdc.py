"""ACDC: short-axis cardiac cine MR with the ventricles and the myocardium outlined."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from data_modules.acdc_files import Form, find_form, find_h5, find_nifti, h5_cases
from data_modules.cases import CaseIndex, SegmentationCase
from data_modules.listing import require_root
from data_modules.screening import hold_out
from data_modules.segmentation import SegmentationDataModule
from data_modules.splits import Split
from medzeroseg.imaging import InputError, PercentileWindow, Window

SplitName = Literal["auto", "challenge", "ssl4mis", "lists", "publication"]

SSL4MIS_VAL = frozenset(f"patient{number:03d}" for number in (2, 19, 28, 30, 39, 45, 78, 82, 85, 87))
"""Source: HiLab-git/SSL4MIS, data/ACDC/val.list at commit 06df6047 (2025-06-06)."""
SSL4MIS_TEST = frozenset(
    f"patient{number:03d}" for number in (1, 7, 8, 11, 13, 22, 24, 33, 52, 59, 64, 65, 66, 68, 75, 80, 81, 83, 84, 93)
)
"""Source: HiLab-git/SSL4MIS, data/ACDC/test.list at the same commit. Its train.list names the other 70 of 100."""

HOW_TO_GET = (
    "ACDC is obtained from its owners (CREATIS, Lyon: the Automated Cardiac Diagnosis Challenge, on the page of the "
    "Human Heart Project) under CC BY-NC-SA 4.0: research only, cite Bernard et al. 2018. Give the folder that holds "
    "training/ (and testing/), or SSL4MIS's folder of h5 files with its train_slices.list. Nothing is downloaded from "
    "here. To try the project without it, run the phantom, which needs no data: make train EXP=phantom_cehnc"
)


class ACDCDataModule(SegmentationDataModule):
    """Automated Cardiac Diagnosis Challenge (ACDC): end-diastole and end-systole of 150 patients.

    Features: 100 training and 50 testing patients in five groups (healthy, infarct, dilated and hypertrophic
    cardiomyopathy, abnormal right ventricle), two labelled volumes each; 0.7-1.9 mm in-plane, slices 5-10 mm apart,
    6-18 slices from base to apex. A case's facts: `phase` (end-diastole, end-systole) and, in the challenge's form,
    `group`.

    Format: the challenge's NIfTI files,

        root/                                   or root/database, root/ACDC, root/ACDC/database
        └── {training,testing}/patient001/
            ├── Info.cfg                        ED: 1, ES: 12, Group: DCM, ...
            ├── patient001_4d.nii.gz            the cine; not used
            ├── patient001_frame01.nii.gz       frames counted from 1
            └── patient001_frame01_gt.nii.gz

    or SSL4MIS's HDF5 files (`image` scaled to [0, 1], `label`; the spacing is lost),

        root/
        ├── train_slices.list, test.list        and val.list, names without an ending
        └── data/
            ├── patient028_frame01.h5           whole volumes; frame01 is end-diastole, frame02 end-systole
            └── [slices/]patient003_frame01_slice_1.h5

    Classes: 1 right ventricle, 2 myocardium, 3 left ventricle (cavity). M&Ms swaps 1 and 3: its files are not ACDC's.

    Slices lie as in the files (rows are the second voxel axis): the right ventricle is left of the left one.

    Splits (`split`), all by patient:

        challenge    testing/ tests; a fifth of training/ validates, chosen by hash (our rule: the challenge names no
                     validation patients).
        ssl4mis      70 / 10 / 20 of the 100 training patients, SSL4MIS's lists (Luo, github.com/HiLab-git/SSL4MIS).
        publication  every volume of training/ tests (n = 200), as in the publication (PLOS ONE 21(3) e0344978), which
                     does not say what trained its supervised rows. Here testing/ does, of which a fifth of the patients
                     validates, chosen by hash: rows with and without training are compared on the same 200 volumes.
        lists        the lists in the folder (h5 form); without val.list a fifth of the training patients validates,
                     chosen by hash.
        auto         challenge for NIfTI, lists for h5.

    Licence: CC BY-NC-SA 4.0, research only.

    Source: Bernard et al., "Deep Learning Techniques for Automatic MRI Cardiac Multi-Structures Segmentation and
    Diagnosis: Is the Problem Solved?", IEEE TMI 37(11), 2018.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        split: SplitName = "auto",
        **options: Any,  # noqa: ANN401 - the base's arguments; the command line reads their types there
    ) -> None:
        """Set up the module; see `SegmentationDataModule` for the arguments not listed.

        Args:
            root: The folder that holds `training`, or SSL4MIS's lists.
            split: Which patients train, validate and test; see above.
            **options: Passed on.
        """
        super().__init__(root, **options)
        self.split = split

    @property
    def label_names(self) -> dict[int, str]:
        """ACDC's order."""
        return {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}

    @property
    def modality(self) -> str:
        """Cardiac MRI."""
        return "cardiac MRI"

    @property
    def window(self) -> Window:
        """MR has no absolute scale: each volume between its 0.5 and 99.5 percentiles."""
        return PercentileWindow()

    def index_split(self, split: Split) -> CaseIndex:
        """List the cases of a split.

        Raises:
            InputError: The set, or what the split needs of it, is not there; or the split leaves nothing to train on.
        """
        require_root(self.root, self.title, HOW_TO_GET)
        found = find_form(self.root)
        if found is None:
            raise InputError(f"{self.title}: {self.root} holds neither training/ nor train_slices.list. {HOW_TO_GET}")
        form, folder = found
        name = self.split if self.split != "auto" else "challenge" if form == "nifti" else "lists"
        if (name, form) in (("lists", "nifti"), ("challenge", "h5")):
            other = "'challenge' or 'ssl4mis'" if form == "nifti" else "'lists' or 'ssl4mis'"
            raise InputError(
                f"{self.title}: {folder} is in the {_FORMS[form]}, for which there is no split '{name}'; use {other}"
            )
        skipped: Counter[str] = Counter()
        choose: dict[str, Callable[[], list[SegmentationCase]]] = {
            "challenge": lambda: self._challenge(folder, split, skipped),
            "lists": lambda: self._lists(folder, split, skipped),
            "publication": lambda: self._publication(form, folder, split, skipped),
            "ssl4mis": lambda: [
                case for case in self._training(form, folder, skipped) if _ssl4mis_split(case.patient) == split
            ],
        }
        return CaseIndex(choose[name](), dict(skipped))

    def _training(self, form: Form, folder: Path, skipped: Counter[str]) -> list[SegmentationCase]:
        if form == "h5":
            return find_h5(folder, skipped)
        return find_nifti(folder / "training", skipped, skip_missing=self.corrupt == "skip")

    def _publication(self, form: Form, folder: Path, split: Split, skipped: Counter[str]) -> list[SegmentationCase]:
        if split == "test":
            return self._training(form, folder, skipped)
        return _held_out(self._testing(folder, "publication", "trains on", skipped), split, "acdc_publication")

    def _testing(self, folder: Path, name: str, use: str, skipped: Counter[str]) -> list[SegmentationCase]:
        if not (folder / "testing").is_dir():
            raise InputError(
                f"{self.title}: {folder} has no testing/, which the split '{name}' {use}; fetch it, or use "
                f"split=ssl4mis. {HOW_TO_GET}"
            )
        return find_nifti(folder / "testing", skipped, skip_missing=self.corrupt == "skip")

    def _challenge(self, folder: Path, split: Split, skipped: Counter[str]) -> list[SegmentationCase]:
        if split == "test":
            return self._testing(folder, "challenge", "tests on", skipped)
        return _held_out(self._training("nifti", folder, skipped), split, "acdc")

    def _lists(self, folder: Path, split: Split, skipped: Counter[str]) -> list[SegmentationCase]:
        if split == "test":
            return h5_cases(folder, _read_list(folder / "test.list"), skipped)
        if split == "val" and (folder / "val.list").is_file():
            return h5_cases(folder, _read_list(folder / "val.list"), skipped)
        cases = h5_cases(folder, _read_list(folder / "train_slices.list"), skipped)
        return cases if (folder / "val.list").is_file() else _held_out(cases, split, "acdc_h5")


_FORMS: dict[Form, str] = {"nifti": "challenge's NIfTI form", "h5": "h5 form"}


def _held_out(cases: list[SegmentationCase], split: Split, salt: str) -> list[SegmentationCase]:
    """Training or validation cases: a fifth of the patients validates."""
    validation = hold_out((case.patient for case in cases), 0.2, salt)
    return [case for case in cases if (case.patient in validation) == (split == "val")]


def _ssl4mis_split(patient: str) -> Split:
    return "val" if patient in SSL4MIS_VAL else "test" if patient in SSL4MIS_TEST else "train"


def _read_list(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split()
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: there is no such file; it lists the images of a split, one a line. {HOW_TO_GET}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
