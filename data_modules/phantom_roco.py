"""The synthetic phantom in ROCO's layout, made on first use and read as ROCO is."""

from pathlib import Path
from typing import Any

from data_modules.phantom import generate_roco
from data_modules.phantom.roco import check_arguments
from data_modules.phantom.storage import read_manifest
from data_modules.roco import ROCODataModule
from medzeroseg.imaging import InputError


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
        self.phantom_seed = phantom_seed
        self.sizes = {"train": train, "validation": validation, "test": test}
        self.hard_negative_fraction = hard_negative_fraction
        self.phantom_workers = phantom_workers
        check_arguments(phantom_seed, self.sizes, image_size_px, hard_negative_fraction, phantom_workers)

    def prepare_data(self) -> None:
        """Generate the phantom where it is absent; Lightning calls this in one process a node.

        Raises:
            InputError: Another phantom is there, which another run may be reading, or something that is none.
        """
        wanted = {
            "seed": self.phantom_seed,
            **self.sizes,
            "image_size_px": self.image_size_px,
            "hard_negative_fraction": self.hard_negative_fraction,
        }
        found = (read_manifest(self.root) or {}).get("parameters", wanted)
        if found != wanted:
            differences = [
                f"{key} is {found.get(key)} there, {value} wanted"
                for key, value in wanted.items()
                if found.get(key) != value
            ]
            raise InputError(
                f"{self.root} holds a phantom made with other parameters ({'; '.join(differences)}), which another run "
                "may be reading. Give this one a root of its own: --data.init_args.root=data/another_phantom"
            )
        generate_roco(
            self.root,
            seed=self.phantom_seed,
            train=self.sizes["train"],
            validation=self.sizes["validation"],
            test=self.sizes["test"],
            image_size_px=self.image_size_px,
            hard_negative_fraction=self.hard_negative_fraction,
            workers=self.phantom_workers,
        )
