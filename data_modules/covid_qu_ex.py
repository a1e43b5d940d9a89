"""COVID-QU-Ex: chest X-rays of COVID-19, other pneumonia and healthy lungs, with lung and infection masks."""

from collections import Counter
from pathlib import Path
from typing import Any, Literal

from data_modules.case_sources import PictureWithMasks
from data_modules.cases import CaseIndex, SegmentationCase
from data_modules.covid_qu_ex_files import (
    FOLDER_OF_PART,
    HOW_TO_GET,
    Part,
    XRay,
    find_part,
    find_xrays,
    held_out_of_train,
)
from data_modules.listing import require_root
from data_modules.segmentation import SegmentationDataModule
from data_modules.splits import Split
from medzeroseg.imaging import FixedWindow, InputError

TestFolder = Literal["Test", "Val"]

_LUNGS, _INFECTION = 1, 2


class COVIDQUExDataModule(SegmentationDataModule):
    """COVID-QU-Ex.

    Features: 33,920 frontal chest X-rays, 256 x 256 PNG, of three classes. The lung part (about 21,715 / 5,417 /
    6,788) has lung masks, the infection part (3,728 / 932 / 1,166) lung and infection masks; the infection masks of
    the classes without COVID-19 are empty. The parts share images and split them differently: one module reads one
    part, and models trained on one part are not to be tested on the other.

    Format:

        root/
        └── {Lung,Infection} Segmentation Data/[the same again/]{Train,Val,Test}/{COVID-19,Non-COVID,Normal}/
            ├── images/*.png
            ├── lung masks/*.png             0 and 255
            └── infection masks/*.png        infection part

    Labels: lungs (lung part). In the infection part the ids part the lungs: 1 lungs without infection, 2 infection;
    the structure "lungs" is the union of both (`label_parts`), for every infection lies within the lungs.

    Splits: the owners' Train, Val and Test. With `test_folder="Val"` (copies without `Test`) `Val` tests and 15 % of
    each class of `Train` validates, chosen by a hash of the names. The set names no patients: each file counts as one.

    Licence: CC BY-SA 4.0.

    Source: Tahir et al., "COVID-19 infection localization and severity grading from chest X-ray images", Comput. Biol.
    Med. 139 (2021) 105002. The publication (PLOS ONE 21(3) e0344978) tests on n = 200 X-rays; which ones it does not
    say: `max_test_cases=200` chooses 200 by `selection_seed`.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        part: Part = "infection",
        test_folder: TestFolder = "Test",
        **options: Any,  # noqa: ANN401 - the base's arguments; the command line reads their types there
    ) -> None:
        """Set up the module; see `SegmentationDataModule` for the arguments not listed.

        Args:
            root: The folder that holds the parts.
            part: Which part is read.
            test_folder: Which folder tests.
            **options: Passed on.

        Raises:
            ValueError: An argument is unknown.
        """
        super().__init__(root, **options)
        if part not in FOLDER_OF_PART:
            raise ValueError(f"part: '{part}' is unknown; known are {', '.join(FOLDER_OF_PART)}")
        if test_folder not in ("Test", "Val"):
            raise ValueError(f"test_folder: '{test_folder}' is unknown; known are Test, Val")
        self.part, self.test_folder = part, test_folder

    @property
    def label_names(self) -> dict[int, str]:
        """The lungs, parted by the infection in the infection part."""
        if self.part == "lungs":
            return {_LUNGS: "lungs"}
        return {_LUNGS: "lungs without infection", _INFECTION: "infection"}

    @property
    def label_parts(self) -> dict[str, tuple[int, ...]]:
        """The whole lungs, and the infection in them."""
        if self.part == "lungs":
            return {"lungs": (_LUNGS,)}
        return {"lungs": (_LUNGS, _INFECTION), "infection": (_INFECTION,)}

    @property
    def modality(self) -> str:
        """Chest X-ray."""
        return "chest X-ray"

    @property
    def window(self) -> FixedWindow:
        """8-bit pictures, as they are."""
        return FixedWindow(0.0, 255.0)

    @property
    def pictures(self) -> bool:
        """Every case is one picture."""
        return True

    def index_split(self, split: Split) -> CaseIndex:
        """List the X-rays of a split.

        Raises:
            InputError: A folder is missing.
        """
        name = {"train": "Train", "val": "Val", "test": "Test"}[split]
        if self.test_folder == "Val":
            name = "Val" if split == "test" else "Train"
        require_root(self.root, self.title, HOW_TO_GET)
        top = find_part(self.root, self.part)
        if not (top / name).is_dir():
            advice = " If the copy lacks Test, set test_folder=Val." if name == "Test" else ""
            raise InputError(f"{self.title}: there is no folder {top / name}.{advice} {HOW_TO_GET}")
        skipped: Counter[str] = Counter()
        xrays = find_xrays(top / name, self.part, skipped)
        if self.test_folder == "Val" and split != "test":
            held = held_out_of_train(xrays)
            xrays = [xray for xray in xrays if ((xray.diagnosis, xray.name) in held) == (split == "val")]
        return CaseIndex([self._case(name, xray) for xray in xrays], dict(skipped))

    def _case(self, folder: str, xray: XRay) -> SegmentationCase:
        masks = [(xray.lungs, _LUNGS)]
        if xray.infection is not None:
            masks.append((xray.infection, _INFECTION))
        case_id = f"{folder}/{xray.diagnosis}/{xray.name}"
        source = PictureWithMasks(xray.image, tuple(masks))
        return SegmentationCase(case_id, case_id, source, {"diagnosis": xray.diagnosis})
