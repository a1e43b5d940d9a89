"""The synthetic phantom in ACDC's layout, made on first use and read as ACDC is."""

from pathlib import Path
from typing import Any

from data_modules.acdc import ACDCDataModule
from data_modules.phantom.acdc import AcdcLayout
from data_modules.phantom.generation import cache_folder, check_workers, generate_for_reading


class PhantomACDCDataModule(ACDCDataModule):
    """Synthetic short-axis stacks at end-diastole and end-systole, with both ventricles and the myocardium labelled.

    The generator writes the layout of `ACDCDataModule`, whose reader serves both; the slices look as the cardiac
    pictures of `PhantomROCODataModule` do. The same seed and sizes give the same bytes; a root that holds them
    already is left alone.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        phantom_seed: int = 0,
        training: int = 20,
        testing: int = 10,
        phantom_workers: int | None = None,
        cache_dir: Path | str | None = None,
        **options: Any,  # noqa: ANN401 - the base's arguments; the command line reads their types there
    ) -> None:
        """Set up the module; see `ACDCDataModule` for the arguments not listed.

        Args:
            root: Where the phantom is, or is to be made.
            phantom_seed: Seed of the volumes, apart from the training's `seed`.
            training: Patients made in `training`, at most 100.
            testing: Patients made in `testing`.
            phantom_workers: Processes that generate; by default one for each usable core.
            cache_dir: Where decoded volumes are kept; by default with the phantom, or where that cannot be written
                in the user's own cache folder.
            **options: Passed on.
        """
        super().__init__(root, cache_dir=cache_folder(root, cache_dir), **options)
        self.layout = AcdcLayout(phantom_seed, training, testing)
        self.phantom_workers = check_workers(phantom_workers, "phantom_workers")

    def prepare_data(self) -> None:
        """Generate the phantom where it is absent; Lightning calls this in one process a node.

        Raises:
            InputError: Another phantom is there, which another run may be reading, or something that is none.
        """
        generate_for_reading(self.layout, self.root, self.phantom_workers)
