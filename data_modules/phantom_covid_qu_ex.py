"""The synthetic phantom in the layout of COVID-QU-Ex, made on first use and read as COVID-QU-Ex is."""

from pathlib import Path
from typing import Any

from data_modules.covid_qu_ex import COVIDQUExDataModule
from data_modules.phantom.covid_qu_ex import CovidQuExLayout
from data_modules.phantom.generation import cache_folder, check_workers, generate_for_reading


class PhantomCOVIDQUExDataModule(COVIDQUExDataModule):
    """Synthetic chest X-rays of three classes, with lung and infection masks.

    The generator writes the layout of `COVIDQUExDataModule`, whose reader serves both; the pictures look as the
    radiographs of `PhantomROCODataModule` do. The same seed and sizes give the same bytes; a root that holds them
    already is left alone.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        phantom_seed: int = 0,
        train: int = 120,
        validation: int = 30,
        test: int = 60,
        phantom_workers: int | None = None,
        cache_dir: Path | str | None = None,
        **options: Any,  # noqa: ANN401 - the base's arguments; the command line reads their types there
    ) -> None:
        """Set up the module; see `COVIDQUExDataModule` for the arguments not listed.

        Args:
            root: Where the phantom is, or is to be made.
            phantom_seed: Seed of the pictures, apart from the training's `seed`.
            train: Pictures made in `Train`, of each part.
            validation: Pictures made in `Val`, of each part.
            test: Pictures made in `Test`, of each part.
            phantom_workers: Processes that generate; by default one for each usable core.
            cache_dir: Where decoded volumes are kept; by default with the phantom, or where that cannot be written
                in the user's own cache folder.
            **options: Passed on.
        """
        super().__init__(root, cache_dir=cache_folder(root, cache_dir), **options)
        self.layout = CovidQuExLayout(phantom_seed, train, validation, test)
        self.phantom_workers = check_workers(phantom_workers, "phantom_workers")

    def prepare_data(self) -> None:
        """Generate the phantom where it is absent; Lightning calls this in one process a node.

        Raises:
            InputError: Another phantom is there, which another run may be reading, or something that is none.
        """
        generate_for_reading(self.layout, self.root, self.phantom_workers)
