"""MedPix: teaching images of many modalities with captions, as the peers' fine-tuning set is packaged."""

import csv
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from data_modules.base import BadInput, ImageTextDataModule, Split, SplitIndex
from data_modules.caption_csv import read_csv_pairs
from data_modules.captioned_images import ImageFolder, count_unpaired, list_images
from data_modules.pairs import ImageTextRecord, PictureFile
from data_modules.seeding import stable_hash
from medzeroseg.imaging import InputError

TestOn = Literal["own", "val"]

CAPTIONS_FILE = "medpix_dataset.csv"
_CASE = re.compile(r"synpic(\d+)", re.IGNORECASE)
_SPLITS: tuple[Split, ...] = ("train", "val", "test")

HOW_TO_GET = (
    "MedPix is the teaching file of the US National Library of Medicine (medpix.nlm.nih.gov; free for personal and "
    "teaching use, ask before redistribution). The form read here, one CSV of file names and captions and a folder of "
    "images, is that of the MedCLIP-SAM repository. Nothing is downloaded from here. "
    "To try the project without it, run the phantom, which needs no data: make train EXP=phantom_cehnc"
)


class MedPixDataModule(ImageTextDataModule):
    """MedPix in the form that MedCLIP-SAM fine-tunes on.

    Features: about 24,000 images (20,292 / 3,515 pairs at the peers) of radiographs, CT, MR, ultrasound and others.

    Format: RGB JPEG; a comma-separated UTF-8 file.

        root/
        ├── medpix_dataset.csv          filename,Caption
        └── images/synpic100377.jpg

    `filename` may hold a path of the machine on which it was written: the base name under `images/` counts.

    Splits: 85 % of the cases train. A case (the `synpic` number) goes by a hash of its number and `split_seed` alone,
    so it keeps its place whatever else a copy of the dataset holds or lacks; nothing need be written into a root that
    may be read-only. `write_split` stores the list, `split_file` reads one back (the peers', say). Of the other 15 %,
    one half of the cases validates and the other tests, because the best checkpoint is chosen on the first. With
    `test_on="val"` all 15 % validate and the same test: the peers' protocol, flattering by that choice.

    Licence: per contributor; see the terms of MedPix.

    Source: Koleilat et al., "MedCLIP-SAM", MICCAI 2024 (arXiv 2403.20253): captions under 20 characters dropped,
    85/15 split. Their list of cases is not published.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        captions_file: str = CAPTIONS_FILE,
        missing: BadInput = "skip",
        min_caption_characters: int = 20,
        split_seed: int = 0,
        train_fraction: float = 0.85,
        test_on: TestOn = "own",
        split_file: Path | str | None = None,
        **options: Any,  # noqa: ANN401 - the base's arguments; the command line reads their types there
    ) -> None:
        """Set up the module; see `ImageTextDataModule` for the arguments not listed.

        Args:
            root: The folder that holds the captions and `images`.
            captions_file: Name of the CSV in it.
            missing: What to do with captions whose image is not there or empty: leave them out and report, or stop.
            min_caption_characters: Shorter captions are left out and counted; 0 for none.
            split_seed: Chooses the splits; apart from `seed`, so that runs with different seeds share them.
            train_fraction: Share of the cases that train, between 0 and 1.
            test_on: What tests: "own", half of the cases that do not train, or "val", the validation split.
            split_file: A CSV `case,split` as `write_split` makes; replaces `split_seed` and `train_fraction`.
            **options: Passed on.

        Raises:
            ValueError: A number is out of range; names the argument.
        """
        super().__init__(root, **options)
        if not 0 < train_fraction < 1:
            raise ValueError(f"train_fraction must be between 0 and 1, got {train_fraction}")
        if min_caption_characters < 0:
            raise ValueError(f"min_caption_characters must be 0 or more, got {min_caption_characters}")
        self.captions_file = captions_file
        self.missing = missing
        self.min_caption_characters = min_caption_characters
        self.split_seed = split_seed
        self.train_fraction = train_fraction
        self.test_on = test_on
        self.split_file = None if split_file is None else Path(split_file).expanduser()
        self._files: _Files | None = None

    def index_split(self, split: Split) -> SplitIndex:
        """List the pairs of a split whose image exists.

        Raises:
            InputError: The captions or the images are missing, or a file cannot be trusted.
        """
        files = self._read()
        split_of = self._split_of_case({_case(image_id) for image_id in files.captions})
        wanted: Split = "val" if split == "test" and self.test_on == "val" else split

        def here(image_id: str) -> bool:
            return split_of.get(_case(image_id), "train") == wanted

        captions = {image_id: text for image_id, text in files.captions.items() if here(image_id)}
        images = replace(files.images, files={name: path for name, path in files.images.files.items() if here(name)})
        if not captions:
            return SplitIndex([])
        skipped = count_unpaired(self.title, captions, images, self.missing, HOW_TO_GET)
        for reason, image_ids in files.repeated.items():
            skipped[reason] = sum(here(image_id) for image_id in image_ids)
        paired = {image_id: text for image_id, text in captions.items() if image_id in images.files}
        # An empty caption is the base's to judge (`empty_caption`).
        short = {image_id for image_id, text in paired.items() if 0 < len(text) < self.min_caption_characters}
        skipped[f"captions under {self.min_caption_characters} characters"] = len(short)
        records = [
            ImageTextRecord(image_id, text, PictureFile(images.files[image_id]))
            for image_id, text in paired.items()
            if image_id not in short
        ]
        return SplitIndex(records, skipped)

    def write_split(self, path: Path | str) -> None:
        """Store which case is in which split, as a CSV `case,split` that `split_file` reads.

        Raises:
            InputError: The dataset cannot be read, or the file cannot be written.
        """
        split_of = self._split_of_case({_case(image_id) for image_id in self._read().captions})
        rows = sorted(split_of.items(), key=lambda row: (_SPLITS.index(row[1]), row[0]))
        path = Path(path)
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            with temporary.open("w", newline="", encoding="utf-8") as stream:
                csv.writer(stream, lineterminator="\n").writerows([("case", "split"), *rows])
            temporary.replace(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror}); choose another folder") from error

    def _read(self) -> "_Files":
        """Read the captions and list the images, once for all splits."""
        if self._files is not None:
            return self._files
        path, folder = self.root / self.captions_file, self.root / "images"
        absent = [name.name for name in (path, folder) if not name.exists()]
        if absent:
            state = f"lacks {' and '.join(absent)}" if self.root.exists() else "does not exist"
            raise InputError(f"{self.title}: {self.root} {state}. {HOW_TO_GET}")
        captions: dict[str, str] = {}
        same: list[str] = []
        different: list[str] = []
        for _, name, caption in read_csv_pairs(path, "filename", "Caption"):
            # The path may have been written on Windows.
            base = name.replace("\\", "/").rpartition("/")[2]
            image_id = Path(base).stem
            if image_id not in captions:
                captions[image_id] = caption
            else:
                (same if captions[image_id] == caption else different).append(image_id)
        repeated = {"repeated captions of one image": same, "further, different captions of one image": different}
        self._files = _Files(captions, repeated, list_images(folder, leave_out_empty=True))
        return self._files

    def _split_of_case(self, cases: set[str]) -> dict[str, Split]:
        if self.split_file is None:
            return {case: self._drawn_split(case) for case in cases}
        listed = {case: name for _, case, name in read_csv_pairs(self.split_file, "case", "split")}
        known: dict[str, Split] = {split: split for split in _SPLITS}
        for case in sorted(cases):
            if case not in listed:
                raise InputError(f"{self.split_file}: case {case} of {self.captions_file} is in no split")
            if listed[case] not in known:
                raise InputError(
                    f"{self.split_file}: case {case}: '{listed[case]}' is no split; expected {', '.join(_SPLITS)}"
                )
        return {case: known[listed[case]] for case in cases}

    def _drawn_split(self, case: str) -> Split:
        share = stable_hash(f"{self.split_seed}/{case}") / 2**63
        if share < self.train_fraction:
            return "train"
        return "val" if self.test_on == "val" or share < (1 + self.train_fraction) / 2 else "test"


@dataclass(frozen=True)
class _Files:
    """What lies under a root: captions by image id, ids that came again by reason, the images."""

    captions: dict[str, str]
    repeated: dict[str, list[str]]
    images: ImageFolder


def _case(image_id: str) -> str:
    """The case an image belongs to: its `synpic` number, or the whole name where it has none."""
    found = _CASE.search(image_id)
    return f"synpic{found[1]}" if found else image_id
