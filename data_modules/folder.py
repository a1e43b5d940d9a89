"""Any folder of labelled volumes or pictures, described by a small YAML file or nnU-Net's dataset.json."""

import re
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from data_modules.case_sources import PicturePair, PictureWithMasks, View, VolumePair, VolumeWithMasks
from data_modules.cases import CaseIndex, CaseSource, SegmentationCase
from data_modules.folder_description import FolderDescription, read_description
from data_modules.folder_files import list_files, match_files, read_splits, split_by_hash, split_by_lists
from data_modules.folder_nnunet import read_nnunet
from data_modules.listing import require_root
from data_modules.screening import check_share
from data_modules.segmentation import SegmentationDataModule
from data_modules.splits import Split
from medzeroseg.imaging import FixedWindow, InputError, PercentileWindow, Window

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp")

HOW_TO_DESCRIBE = (
    'Write a dataset.yaml into the folder, for example: labels: {1: liver}, images: "images/{id}.nii.gz", '
    'masks: "labels/{id}.nii.gz", modality: abdominal CT, window: abdomen. nnU-Net\'s dataset.json is read as it is'
)


class FolderDataModule(SegmentationDataModule):
    r"""Volumes or pictures in a folder of your own, with label maps or one binary mask a structure.

    Format: NIfTI, NRRD, MHA, DICOM series, PNG, JPEG and so on, and a description,

        root/
        ├── dataset.yaml
        ├── images/P01_day1.nii.gz
        └── labels/P01_day1.nii.gz

        # dataset.yaml
        labels: {1: liver, 2: spleen}               # id: name, in the words used in prompts
        images: "images/{id}.nii.gz"                # {id} stands for the case; "images/{id}/" is a DICOM series
        masks: "labels/{id}.nii.gz"                 # label maps; or binary masks, later ones over earlier ones:
        # masks: {lungs: "masks/{id}_lungs.png", infection: "masks/{id}_infection.png"}
        modality: abdominal CT                      # in words, for prompts
        window: abdomen                             # a name; or {low: -160, high: 240}, or {lower: 0.5, upper: 99.5}
        view: axial                                 # or stored: slices as in the file
        patient: "^(P\\d+)"                         # the first group names the patient; else each case is one
        parts: {abdomen: [1, 2]}                    # structures scored, where that is not one for each label
        splits: {train: [P01], val: [P02], test: [P03]}     # ids or patients; else chosen by hash
        ignore: 255                                 # the id of what is unknown

    or nnU-Net's layout, where imagesTs tests, with labelsTs as its reference where that exists,

        root/
        ├── dataset.json
        ├── imagesTr/liver_001_0000.nii.gz          one file a channel
        ├── labelsTr/liver_001.nii.gz
        └── imagesTs/liver_201_0000.nii.gz

    Splits: by patient. The lists of `splits_file` (train, val, test; or nnU-Net's splits_final.json, one of its folds)
    or of the description; else a fixed rule: a patient's number is the hash of the id, `test_share` of the patients
    with the lowest test (none where there is an imagesTs), then `val_share` of the others validates.

    Defaults without `window`: pictures as they are (0..255), volumes between their 0.5 and 99.5 percentiles, nnU-Net's
    channel "CT" in the abdominal window.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        description: Path | str | None = None,
        splits_file: Path | str | None = None,
        fold: int = 0,
        val_share: float = 0.15,
        test_share: float = 0.2,
        channel: int | str | None = None,
        modality: str | None = None,
        window: Window | None = None,
        view: View | None = None,
        patient: str | None = None,
        **options: Any,  # noqa: ANN401 - the base's arguments; the command line reads their types there
    ) -> None:
        r"""Set up the module; see `SegmentationDataModule` for the arguments not listed.

        Args:
            root: The folder.
            description: The describing file; by default dataset.yaml, then dataset.json, in the folder.
            splits_file: Which cases train, validate and test; see above.
            fold: Which fold of a splits_final.json.
            val_share: Share of the patients that validate, without lists.
            test_share: Share of the patients that test, without lists.
            channel: Which of nnU-Net's channels, by number or name.
            modality: In words; overrides the description.
            window: Overrides the description.
            view: Overrides the description.
            patient: Overrides the description: "^(P\\d+)".
            **options: Passed on.

        Raises:
            ValueError: A number is out of range, or `patient` is no regular expression with a group.
        """
        super().__init__(root, **options)
        check_share("val_share", val_share)
        check_share("test_share", test_share)
        if fold < 0:
            raise ValueError(f"fold must be 0 or more, got {fold}")
        if patient is not None and not _is_expression(patient):
            raise ValueError(f"patient must be a regular expression with a group, got '{patient}'")
        self.description_file = None if description is None else Path(description).expanduser()
        self.splits_file = None if splits_file is None else Path(splits_file).expanduser()
        self.fold, self.val_share, self.test_share, self.channel = fold, val_share, test_share, channel
        self._modality, self._window, self._view, self._patient = modality, window, view, patient

    @cached_property
    def description(self) -> FolderDescription:
        """What the describing file says; read when it is first asked for.

        Raises:
            InputError: It is missing or not understood.
        """
        require_root(self.root, self.title, HOW_TO_DESCRIBE)
        candidates = [self.root / name for name in ("dataset.yaml", "dataset.yml", "dataset.json")]
        path = self.description_file or next((file for file in candidates if file.is_file()), None)
        if path is None:
            raise InputError(f"{self.title}: {self.root} has no dataset.yaml or dataset.json. {HOW_TO_DESCRIBE}")
        found = read_nnunet(path, self.channel) if path.suffix == ".json" else read_description(path)
        if found.patient is not None and not _is_expression(found.patient):
            raise InputError(f"{path}: patient: '{found.patient}' is no regular expression with a group")
        return found

    @property
    def label_names(self) -> dict[int, str]:
        """As described."""
        return dict(self.description.labels)

    @property
    def label_parts(self) -> dict[str, tuple[int, ...]]:
        """As described, else one for each label."""
        return dict(self.description.parts) or super().label_parts

    @property
    def modality(self) -> str:
        """As given or described."""
        return self._modality or self.description.modality

    @property
    def window(self) -> Window:
        """As given or described, else what suits pictures or volumes."""
        return (
            self._window
            or self.description.window
            or (FixedWindow(0.0, 255.0) if self.pictures else PercentileWindow())
        )

    @property
    def pictures(self) -> bool:
        """Whether the images are picture files."""
        return self.description.images.lower().endswith(PICTURE_ENDINGS)

    def index_split(self, split: Split) -> CaseIndex:
        """List the cases of a split.

        Raises:
            InputError: The folder, its description or a listed case is missing, or two files have one id.
        """
        about = self.description
        names = list_files(self.root)
        skipped: Counter[str] = Counter()
        cases = self._cases(names, about.images, about.label_maps, about.masks, skipped)
        if not cases:
            raise InputError(f"{self.title}: no file under {self.root} fits the pattern '{about.images}' of the images")
        only_test = (
            self._cases(names, about.test_images, about.test_label_maps, {}, skipped) if about.test_images else []
        )
        if self.splits_file is not None:
            lists = read_splits(self.splits_file, self.fold)
            if split in lists or not (split == "test" and only_test):
                return CaseIndex(split_by_lists([*cases, *only_test], lists, split, str(self.splits_file)), skipped)
        elif about.splits is not None:
            return CaseIndex(split_by_lists(cases, about.splits, split, "the description's splits"), skipped)
        if only_test:
            return CaseIndex(
                only_test if split == "test" else split_by_hash(cases, split, self.val_share, 0.0), skipped
            )
        return CaseIndex(split_by_hash(cases, split, self.val_share, self.test_share), skipped)

    def _cases(
        self,
        names: list[str],
        images: str,
        label_maps: str | None,
        masks: Mapping[str, str],
        skipped: Counter[str],
    ) -> list[SegmentationCase]:
        maps = match_files(self.root, names, label_maps) if label_maps else {}
        by_label = {label: match_files(self.root, names, pattern) for label, pattern in masks.items()}
        references = set(maps.values()).union(*(found.values() for found in by_label.values()))
        # Masks that lie beside the images ("{id}_mask.png") fit the images' pattern, too.
        found = match_files(self.root, [name for name in names if self.root / name not in references], images)
        skipped["label maps without an image"] += len(set(maps).union(*by_label.values()) - found.keys())
        expression = self._patient or self.description.patient
        cases = []
        for case_id, path in found.items():
            match = re.search(expression, case_id) if expression else None
            if expression and match is None:
                raise InputError(
                    f"{path}: the patient's expression '{expression}' is not found in the id '{case_id}'; without it "
                    "the case could be in another split than the patient's others"
                )
            here = {label: files[case_id] for label, files in by_label.items() if case_id in files}
            source = self._source(path, maps.get(case_id), here, complete=len(here) == len(by_label))
            cases.append(SegmentationCase(case_id, match[1] if match else case_id, source))
        return cases

    def _source(self, image: Path, label_map: Path | None, masks: Mapping[str, Path], *, complete: bool) -> CaseSource:
        about = self.description
        ids = {name: label for label, name in about.labels.items()}
        # A case that lacks some of its masks has no reference: the others would claim that the structure is absent.
        files = tuple((path, ids[name]) for name, path in masks.items()) if complete else ()
        picture = image.name.lower().endswith(PICTURE_ENDINGS)
        view = self._view or about.view
        if files:
            return PictureWithMasks(image, files) if picture else VolumeWithMasks(image, files, view)
        if picture:
            return PicturePair(image, label_map, about.ignore)
        return VolumePair(image, label_map, view, ignore=about.ignore)


def _is_expression(text: str) -> bool:
    try:
        return re.compile(text).groups > 0
    except re.error:
        return False
