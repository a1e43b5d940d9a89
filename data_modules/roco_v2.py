"""ROCO version 2: radiology figures of open-access articles with captions and medical concepts."""

from pathlib import Path
from typing import Any

from data_modules.base import BadInput, ImageTextDataModule, Split, SplitIndex
from data_modules.caption_csv import read_csv_pairs
from data_modules.captioned_images import count_unpaired, list_images
from data_modules.pairs import ImageTextRecord, PictureFile
from data_modules.roco_text import Captions, most_common_terms
from medzeroseg.imaging import InputError

_NAME_OF_SPLIT: dict[Split, str] = {"train": "train", "val": "valid", "test": "test"}

HOW_TO_GET = (
    "ROCOv2 is obtained from its owners on Zenodo (doi 10.5281/zenodo.10821435): the caption and concept files and "
    "one archive of images a split, each image under its article's Creative Commons licence (some forbid "
    "commercial use or changes). Nothing is downloaded from here. "
    "To try the project without it, run the phantom, which needs no data: make train EXP=phantom_cehnc"
)


class ROCOv2DataModule(ImageTextDataModule):
    """Radiology Objects in COntext (ROCO), version 2.

    Features: about 80,000 radiology figures (59,958 / 9,904 / 9,927 in the published release; counts differ by
    release), each with its caption and UMLS concepts.

    Format: JPEG, grey or colour; comma-separated UTF-8 text whose captions hold commas, quotes and line ends.

        root/
        ├── {train,valid,test}_captions.csv     ID,Caption      (ID without the file's ending)
        ├── {train,valid,test}_concepts.csv     ID,CUIs         (joined by ;)
        └── {train,valid,test}/ROCOv2_2023_train_000001.jpg
            or {train,valid,test}_images/{train,valid,test}/ROCOv2_2023_train_000001.jpg

    Licence: per image, the article's.

    Version 2 contains images of version 1, in other splits: a model trained on one must not be tested on the other
    before the common images are out. `medzeroseg data check roco_v2 ROOT --against roco ROCO_ROOT` finds those
    whose pixels are equal.

    Source: Rückert et al., "ROCOv2: Radiology Objects in COntext Version 2, an Updated Multimodal Image Dataset",
    Scientific Data 11, 688 (2024).
    """

    def __init__(
        self,
        root: Path | str,
        *,
        missing: BadInput = "skip",
        max_test_pairs: int | None = 1000,
        **options: Any,  # noqa: ANN401 - the base's arguments; the command line reads their types there
    ) -> None:
        """Set up the module; see `ImageTextDataModule` for the arguments not listed.

        Args:
            root: The folder that holds the caption files.
            missing: What to do with captions whose image is not there: leave them out and report, or stop.
            max_test_pairs: Test pairs used, chosen by `selection_seed`; None for all. Recall depends on the size of
                the gallery: 1,000 as the publication has for ROCO.
            **options: Passed on.
        """
        super().__init__(root, max_test_pairs=max_test_pairs, **options)
        self.missing = missing

    def index_split(self, split: Split) -> SplitIndex:
        """List the pairs of a split whose image exists.

        Raises:
            InputError: The split's captions or images are missing, or a file of captions cannot be trusted.
        """
        name = _NAME_OF_SPLIT[split]
        path = self.root / f"{name}_captions.csv"
        if not path.is_file():
            state = "does not exist" if not self.root.exists() else f"has no {path.name}"
            raise InputError(
                f"{self.title}: the {split} split was expected in {path}, but {self.root} {state}. {HOW_TO_GET}"
            )
        captions = read_captions_csv(path)
        images = list_images(self._image_folder(name))
        counts = count_unpaired(self.title, captions.texts, images, self.missing, HOW_TO_GET)
        counts["repeated captions of one id"] = len(captions.repeated)
        records = [
            ImageTextRecord(image_id, text, PictureFile(images.files[image_id]))
            for image_id, text in captions.texts.items()
            if image_id in images.files
        ]
        return SplitIndex(records, counts)

    def describe(self) -> str:
        """Summarise the splits, and name the commonest concepts of the training or else the first split."""
        summary = super().describe()
        for part in self.datasets:
            path = self.root / f"{_NAME_OF_SPLIT['test' if part == 'predict' else part]}_concepts.csv"
            if path.is_file():
                words = most_common_terms(read_concepts_csv(path), 8)
                return f"{summary} Commonest concepts ({part}): {', '.join(words) or 'none'}."
        return summary

    def _image_folder(self, name: str) -> Path:
        choices = (self.root / f"{name}_images" / name, self.root / f"{name}_images", self.root / name)
        folder = next((choice for choice in choices if choice.is_dir()), None)
        if folder is None:
            raise InputError(
                f"{self.title}: the images of {name}_captions.csv were expected in {choices[-1]} or {choices[0]}; "
                f"neither is there. {HOW_TO_GET}"
            )
        return folder


def read_captions_csv(path: Path) -> Captions:
    """Read `{split}_captions.csv`: `ID,Caption`.

    Raises:
        InputError: See `read_csv_pairs`; also when an id has two different captions.
    """
    texts: dict[str, str] = {}
    repeated = []
    for line, image_id, caption in read_csv_pairs(path, "ID", "Caption"):
        if image_id not in texts:
            texts[image_id] = caption
        elif texts[image_id] == caption:
            repeated.append(image_id)
        else:
            raise InputError(f"{path}, line {line}: {image_id} has a second, different caption; remove the wrong one")
    return Captions(texts, repeated)


def read_concepts_csv(path: Path) -> dict[str, tuple[str, ...]]:
    """Read `{split}_concepts.csv`: `ID,CUIs`, joined by `;`.

    Returns:
        Image id to its concepts (UMLS identifiers), in the file's order.

    Raises:
        InputError: See `read_csv_pairs`.
    """
    return {
        image_id: tuple(term for text in concepts.split(";") if (term := text.strip()))
        for _, image_id, concepts in read_csv_pairs(path, "ID", "CUIs")
    }
