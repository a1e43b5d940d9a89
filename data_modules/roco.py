"""ROCO version 1: radiology figures of open-access articles with their captions."""

from pathlib import Path
from typing import Any, Literal

from data_modules.base import BadInput, ImageTextDataModule, Split, SplitIndex
from data_modules.captioned_images import count_unpaired, list_images
from data_modules.pairs import ImageTextRecord, PictureFile
from data_modules.roco_text import most_common_terms, read_captions, read_terms
from medzeroseg.imaging import InputError

Subset = Literal["radiology", "non-radiology", "both"]

_FOLDER_OF_SPLIT: dict[Split, str] = {"train": "train", "val": "validation", "test": "test"}

HOW_TO_GET = (
    "ROCO is obtained from the ROCO repository of its owners (razorx89/roco-dataset): the captions and a "
    "script that fetches the images from PubMed Central, each under its article's Creative Commons licence "
    "(see licences.txt; some forbid commercial use or changes). Nothing is downloaded from here. "
    "To try the project without it, run the phantom, which needs no data: make train EXP=phantom_cehnc"
)


class ROCODataModule(ImageTextDataModule):
    """Radiology Objects in COntext (ROCO), version 1.

    Features: about 81,800 radiology figures (65,448 / 8,180 / 8,179 in the owners' repository) and 6,000
    others, each with its caption, keywords and UMLS concepts.

    Format: JPEG, grey or colour; tab-separated UTF-8 text.

        root/                             the repository, or its data folder
        └── data/{train,validation,test}/{radiology,non-radiology}/
            ├── captions.txt              ROCO_00001<TAB> caption
            ├── keywords.txt, cuis.txt    ROCO_00001<TAB><TAB>term<TAB>term
            ├── licences.txt              ROCO_ID,PMC_ID,CC
            └── images/ROCO_00001.jpg

    Licence: per image, the article's; see `licences.txt`.

    The owners' download script goes on past images that it cannot fetch: a copy is normally incomplete, and
    the pairs that exist are used (`missing`).

    Source: Pelka et al., "Radiology Objects in COntext (ROCO): a multimodal image dataset", LABELS 2018.
    The publication (PLOS ONE 21(3) e0344978) scores retrieval on 1,000 test pairs; which ones it does not
    say.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        subset: Subset = "radiology",
        missing: BadInput = "skip",
        max_test_pairs: int | None = 1000,
        **options: Any,  # noqa: ANN401 - the base's arguments; the command line reads their types there
    ) -> None:
        """Set up the module; see `ImageTextDataModule` for the arguments not listed.

        Args:
            root: The owners' repository or its `data` folder.
            subset: Which figures to use.
            missing: What to do with captions whose image is not there: leave them out and report, or stop.
            max_test_pairs: Test pairs used, chosen by `selection_seed`; None for all.
            **options: Passed on.
        """
        super().__init__(root, max_test_pairs=max_test_pairs, **options)
        self.subset = subset
        self.missing = missing

    def index_split(self, split: Split) -> SplitIndex:
        """List the pairs of a split whose image exists.

        Raises:
            InputError: The split's folder or a file in it is missing, or images are and `missing` is "error".
        """
        index = SplitIndex([])
        subsets = ("radiology", "non-radiology") if self.subset == "both" else (self.subset,)
        for subset in subsets:
            # An id is unique within its subset only.
            prefix = f"{subset}/" if self.subset == "both" else ""
            self._add_folder(self._folder(split, subset), prefix, index)
        return index

    def describe(self) -> str:
        """Summarise the splits, and name the commonest keywords of the training or else the first split."""
        summary = super().describe()
        subset = "radiology" if self.subset == "both" else self.subset
        for split in (name for name in _FOLDER_OF_SPLIT if name in self.datasets):
            path = self._folder(split, subset) / "keywords.txt"
            if path.is_file():
                words = most_common_terms(read_terms(path), 8)
                return f"{summary} Commonest keywords ({split}): {', '.join(words) or 'none'}."
        return summary

    def _folder(self, split: Split, subset: str) -> Path:
        name = _FOLDER_OF_SPLIT[split]
        data = next((at for at in (self.root / "data", self.root) if (at / name).is_dir()), None)
        if data is None:
            state = "does not exist" if not self.root.exists() else f"has no folder data/{name} or {name}"
            raise InputError(
                f"{self.title}: the {split} split was expected in {self.root / 'data' / name / subset}, "
                f"but {self.root} {state}. {HOW_TO_GET}"
            )
        return data / name / subset

    def _add_folder(self, folder: Path, prefix: str, index: SplitIndex) -> None:
        absent = [name for name in ("captions.txt", "images") if not (folder / name).exists()]
        if absent:
            raise InputError(f"{self.title}: {folder} lacks {' and '.join(absent)}. {HOW_TO_GET}")
        captions = read_captions(folder / "captions.txt")
        images = list_images(folder / "images")
        counts = count_unpaired(self.title, captions.texts, images, self.missing, HOW_TO_GET)
        counts["repeated captions of one id"] = len(captions.repeated)
        index.records += [
            ImageTextRecord(prefix + image_id, text, PictureFile(images.files[image_id]))
            for image_id, text in captions.texts.items()
            if image_id in images.files
        ]
        for reason, count in counts.items():
            index.skipped[reason] = index.skipped.get(reason, 0) + count
