"""The synthetic phantom in ROCO's layout, made on first use and read as ROCO is."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_modules.base import Split, SplitIndex
from data_modules.phantom.generation import check_workers, generate_for_reading
from data_modules.phantom.roco import RocoLayout
from data_modules.roco import ROCODataModule
from data_modules.windows import LabelPicture, NamedStructures

KINDS = {"cardiac_mri": "cardiac MRI", "abdomen_ct": "abdominal CT", "chest_xray": "chest X-ray"}
"""The phantom's anatomies in the words of prompts."""

TRUTH_OF_SPLIT: dict[Split, str] = {"train": "train", "val": "validation", "test": "test"}
"""Folders below ground_truth."""

UNIONS: dict[str, tuple[str, ...]] = {
    "lungs": ("right lung", "left lung"),
    "infection": ("right lung opacity", "left lung opacity"),
    "pleural effusion": ("right pleural effusion", "left pleural effusion"),
}
"""What is spoken of as one, though the phantom draws it in parts."""


class PhantomROCODataModule(ROCODataModule):
    """Synthetic cardiac MR, abdominal CT and chest X-ray slices with captions that name what is visible.

    The generator writes the layout of `ROCODataModule`, whose reader serves both. The same seed and sizes
    give the same bytes; a root that holds them already is left alone.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        phantom_seed: int = 0,
        train: int = 4000,
        validation: int = 500,
        test: int = 1000,
        image_size_px: int = 128,
        hard_negative_fraction: float = 0.3,
        phantom_workers: int | None = None,
        **options: Any,  # noqa: ANN401 - the base's arguments; the command line reads their types there
    ) -> None:
        """Set up the module; see `ROCODataModule` for the arguments not listed.

        Args:
            root: Where the phantom is, or is to be made.
            phantom_seed: Seed of the pictures and captions, apart from the training's `seed`.
            train: Training pairs made.
            validation: Validation pairs made.
            test: Test pairs made.
            image_size_px: Side of the pictures made, and of the images when no model is attached.
            hard_negative_fraction: Share of pairs, 0..1, that differ from another one in a single structure.
            phantom_workers: Processes that generate; by default one for each usable core.
            **options: Passed on.
        """
        super().__init__(root, image_size_px=image_size_px, **options)
        self.layout = RocoLayout(phantom_seed, train, validation, test, image_size_px, hard_negative_fraction)
        self.phantom_workers = check_workers(phantom_workers, "phantom_workers")

    def prepare_data(self) -> None:
        """Generate the phantom where it is absent; Lightning calls this in one process a node.

        Raises:
            InputError: Another phantom is there, which another run may be reading, or something that is none.
        """
        generate_for_reading(self.layout, self.root, self.phantom_workers)

    def index_split(self, split: Split) -> SplitIndex:
        """List the pairs of a split; for windows and for scoring maps, say what their pictures show and where."""
        index = super().index_split(split)
        if split == "train" and self.windows is None:
            return index
        folder = self.root / "ground_truth" / TRUTH_OF_SPLIT[split]
        truth = json.loads((folder / "structures.json").read_text(encoding="utf-8"))
        parts = {anatomy: _parts(list(structures.values())) for anatomy, structures in truth["structures"].items()}
        for position, record in enumerate(index.records):
            anatomy = truth["items"][record.case_id]["modality"]
            labels = LabelPicture(folder / f"masks/{record.case_id}.png")
            named = NamedStructures(KINDS[anatomy], parts[anatomy], labels)
            index.records[position] = replace(record, structures=named)
        return index


def _parts(structures: list[dict[str, Any]]) -> dict[str, tuple[int, ...]]:
    """Each structure with the parts that are drawn over it, and what is spoken of as one."""
    parts = {
        one["name"]: tuple(other["index"] for other in structures if one["name"] in (other["name"], other["part_of"]))
        for one in structures
    }
    unions = {
        name: tuple(label for member in members for label in parts[member])
        for name, members in UNIONS.items()
        if all(member in parts for member in members)
    }
    return parts | unions
