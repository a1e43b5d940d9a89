"""Sunnybrook cardiac data: short-axis cine MR slices with the left ventricle's inner and, in part, outer contour."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from data_modules.captioned_images import list_images
from data_modules.case_sources import PictureWithMasks
from data_modules.cases import IGNORE, CaseIndex, CaseSource, SegmentationCase
from data_modules.listing import require_root
from data_modules.screening import hold_out
from data_modules.segmentation import SegmentationDataModule
from data_modules.splits import Split
from medzeroseg.imaging import InputError, PercentileWindow

Structures = Literal["cavity", "cavity and wall"]
WithoutEpicardium = Literal["skip", "ignore"]

LEFT_VENTRICLE, MYOCARDIUM = 1, 2
# The patient groups in the owners' names (Radau et al., 2009).
_GROUPS = {
    "SC-HF-I": "heart failure with infarction",
    "SC-HF-NI": "heart failure without infarction",
    "SC-HYP": "hypertrophy",
    "SC-N": "healthy",
}

HOW_TO_GET = (
    "The Sunnybrook Cardiac Data (2009 left ventricle segmentation challenge) are in the public domain: from the "
    "Cardiac Atlas Project (cardiacatlas.org). The form read here, PNG slices in images, i_labels and o_labels, is "
    "that of the repository Meow-2/Cardiac-Segmentation-with-U-net. Nothing is downloaded from here. "
    "To try the project without them, run the phantom, which needs no data: make train EXP=phantom_cehnc"
)


@dataclass(frozen=True, slots=True)
class CineSlice:
    """An outlined slice.

    Attributes:
        name: Patient and image number: "SC-HF-I-01-IM-0001-0048".
        patient: "SC-HF-I-01".
        image: The picture.
        endocardium: Mask of the cavity.
        epicardium: Mask of cavity and myocardium; None where it was not outlined.
    """

    name: str
    patient: str
    image: Path
    endocardium: Path
    epicardium: Path | None


def find_slices(folder: Path, split: Split, skipped: Counter[str]) -> list[CineSlice]:
    """List the slices of a split by name; a fifth of the patients tests, 15 % of the others validates (our rule).

    Args:
        folder: Holds `images`, `i_labels` and `o_labels`.
        split: Which.
        skipped: Gets the number of images without a label.

    Raises:
        InputError: A folder is missing.
    """
    require_root(folder, "Sunnybrook", HOW_TO_GET)
    absent = [name for name in ("images", "i_labels", "o_labels") if not (folder / name).is_dir()]
    if absent:
        raise InputError(f"{folder}: there is no folder {', '.join(absent)}. {HOW_TO_GET}")
    images, inner, outer = (list_images(folder / name).files for name in ("images", "i_labels", "o_labels"))
    patients = {name: name.split("-IM-")[0] for name in images}
    test = hold_out(patients.values(), 0.2, "sunnybrook")
    validation = hold_out(set(patients.values()) - test, 0.15, "sunnybrook")
    slices = []
    for name in sorted(images):
        patient = patients[name]
        if split != ("test" if patient in test else "val" if patient in validation else "train"):
            continue
        if name in inner:
            bare = name.removesuffix(".dcm")
            slices.append(CineSlice(bare, patient, images[name], inner[name], outer.get(name)))
        else:
            skipped["images without a label"] += 1
    return slices


class SunnybrookDataModule(SegmentationDataModule):
    """Sunnybrook cardiac data in PNG form.

    Features: 506 short-axis slices (256 x 256) of 29 patients in four groups, the endocardium outlined in all, the
    epicardium in 263 (end-diastole only).

    Format:

        root/
        ├── images/SC-HF-I-01-IM-0001-0048.dcm.png
        ├── i_labels/<the same name>             endocardium: the left ventricle's cavity, 0 and 255
        └── o_labels/<the same name>             epicardium: cavity and myocardium; part of the images

    Labels: 1 left ventricle, 2 myocardium. Where no epicardium was outlined the myocardium is unknown, not absent:
    such slices are left out and counted (`structures="cavity and wall"`), or all slices are used with the cavity alone
    (`structures="cavity"`). For training there is a third way, `without_epicardium="ignore"`: outside the cavity such
    a slice then is `IGNORE`; validation and test leave it out all the same, since nothing wrong can be predicted there.

    Each slice is a case of its own. The names number a cine series' images through its positions and phases; neither is
    stated, and the outlined ones need not make a whole stack. The challenge, too, scored slice by slice.

    Splits: by patient; a fifth tests, 15 % of the others validates, chosen by a hash of their ids. (The challenge's
    own halves were given for other cases than this form holds.)

    The spacing is lost.

    Licence: public domain (CC0).

    Source: Radau et al., "Evaluation framework for algorithms segmenting short axis cardiac MRI", MIDAS Journal, 2009.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        structures: Structures = "cavity and wall",
        without_epicardium: WithoutEpicardium = "skip",
        **options: Any,  # noqa: ANN401 - the base's arguments; the command line reads their types there
    ) -> None:
        """Set up the module; see `SegmentationDataModule` for the arguments not listed.

        Args:
            root: Holds the three folders.
            structures: The cavity in all slices, or cavity and myocardium where both are outlined.
            without_epicardium: What to do in training with slices whose epicardium was not outlined, where the
                myocardium is asked for.
            **options: Passed on.

        Raises:
            ValueError: An argument is unknown.
        """
        super().__init__(root, **options)
        if structures not in ("cavity", "cavity and wall"):
            raise ValueError(f"structures: '{structures}' is unknown; known are 'cavity', 'cavity and wall'")
        if without_epicardium not in ("skip", "ignore"):
            raise ValueError(f"without_epicardium: '{without_epicardium}' is unknown; known are 'skip', 'ignore'")
        self.structures, self.without_epicardium = structures, without_epicardium

    @property
    def label_names(self) -> dict[int, str]:
        """The left ventricle, and its wall."""
        names = {LEFT_VENTRICLE: "left ventricle", MYOCARDIUM: "myocardium"}
        return names if self.structures == "cavity and wall" else {LEFT_VENTRICLE: names[LEFT_VENTRICLE]}

    @property
    def modality(self) -> str:
        """Cardiac MRI."""
        return "cardiac MRI"

    @property
    def window(self) -> PercentileWindow:
        """The slice's own 0.5 and 99.5 percentiles: the pictures are stored too dark to see."""
        return PercentileWindow(0.5, 99.5)

    @property
    def pictures(self) -> bool:
        """Every case is one picture."""
        return True

    def index_split(self, split: Split) -> CaseIndex:
        """List the slices of a split.

        Raises:
            InputError: A folder is missing.
        """
        skipped: Counter[str] = Counter()
        cases = []
        for one in find_slices(self.root, split, skipped):
            source = self._source(one, split)
            if source is None:
                skipped["slices whose epicardium is not outlined"] += 1
                continue
            facts = {"epicardium": "not outlined" if one.epicardium is None else "outlined"}
            # The last part of a patient's name is a number.
            group = _GROUPS.get(one.patient.rsplit("-", 1)[0])
            cases.append(SegmentationCase(one.name, one.patient, source, facts | ({"group": group} if group else {})))
        return CaseIndex(cases, dict(skipped))

    def _source(self, one: CineSlice, split: Split) -> CaseSource | None:
        cavity = (one.endocardium, LEFT_VENTRICLE)
        if self.structures == "cavity":
            return PictureWithMasks(one.image, (cavity,))
        if one.epicardium is not None:
            # The cavity on top: myocardium is epicardium minus endocardium.
            return PictureWithMasks(one.image, ((one.epicardium, MYOCARDIUM), cavity))
        if split == "train" and self.without_epicardium == "ignore":
            return PictureWithMasks(one.image, (cavity,), around=IGNORE)
        return None
