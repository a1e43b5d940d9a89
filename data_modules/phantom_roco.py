"""The synthetic phantom in ROCO's layout, made on first use and read as ROCO is."""

from pathlib import Path
from typing import Any

from data_modules.phantom.generation import check_workers, generate_for_reading
from data_modules.phantom.roco import RocoLayout
from data_modules.roco import ROCODataModule


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
