"""The synthetic phantom in the raw layout of Synapse, made on first use and read as Synapse is."""

from pathlib import Path
from typing import Any

from data_modules.phantom.generation import cache_folder, check_workers, generate_for_reading
from data_modules.phantom.synapse import SynapseLayout
from data_modules.synapse import SynapseDataModule


class PhantomSynapseDataModule(SynapseDataModule):
    """Synthetic abdominal CT volumes in Hounsfield units, with the 13 organs of BTCV labelled.

    The generator writes the raw layout of `SynapseDataModule`, whose reader serves both; slices at the level of the
    kidneys look as the abdominal pictures of `PhantomROCODataModule` do. The same seed and sizes give the same bytes;
    a root that holds them already is left alone.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        phantom_seed: int = 0,
        volumes: int = 30,
        slice_size_px: int = 144,
        phantom_workers: int | None = None,
        cache_dir: Path | str | None = None,
        **options: Any,  # noqa: ANN401 - the base's arguments; the command line reads their types there
    ) -> None:
        """Set up the module; see `SynapseDataModule` for the arguments not listed.

        Args:
            root: Where the phantom is, or is to be made.
            phantom_seed: Seed of the volumes, apart from the training's `seed`.
            volumes: Volumes made, at most 30; from 5 on, each part of the split "transunet" has some.
            slice_size_px: Width and height of the slices made.
            phantom_workers: Processes that generate; by default one for each usable core.
            cache_dir: Where decoded volumes are kept; by default with the phantom, or where that cannot be written
                in the user's own cache folder.
            **options: Passed on.
        """
        super().__init__(root, cache_dir=cache_folder(root, cache_dir), **options)
        self.layout = SynapseLayout(phantom_seed, volumes, slice_size_px)
        self.phantom_workers = check_workers(phantom_workers, "phantom_workers")

    def prepare_data(self) -> None:
        """Generate the phantom where it is absent; Lightning calls this in one process a node.

        Raises:
            InputError: Another phantom is there, which another run may be reading, or something that is none.
        """
        generate_for_reading(self.layout, self.root, self.phantom_workers)
