"""The datasets that can be checked by name: a name, its data module and a line about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module

from medzeroseg.imaging.errors import InputError


@dataclass(frozen=True)
class Dataset:
    """A dataset known by name.

    Attributes:
        class_path: Its data module, imported when it is asked for.
        about: A line for the list of datasets.
    """

    class_path: str
    about: str


DATASETS: Mapping[str, Dataset] = {
    "acdc": Dataset("data_modules.ACDCDataModule", "cardiac MR: the challenge's NIfTI files or SSL4MIS's HDF5 form"),
    "covid_qu_ex": Dataset("data_modules.COVIDQUExDataModule", "chest X-rays with lungs and infections"),
    "folder": Dataset("data_modules.FolderDataModule", "your own images and masks, or nnU-Net's dataset.json"),
    "medpix": Dataset("data_modules.MedPixDataModule", "teaching images with captions, one CSV"),
    "phantom": Dataset("data_modules.PhantomROCODataModule", "the synthetic set in ROCO's layout"),
    "phantom_acdc": Dataset("data_modules.PhantomACDCDataModule", "the synthetic set in ACDC's layout"),
    "phantom_covid_qu_ex": Dataset("data_modules.PhantomCOVIDQUExDataModule", "the same in COVID-QU-Ex's layout"),
    "phantom_synapse": Dataset("data_modules.PhantomSynapseDataModule", "the same in Synapse's raw layout"),
    "real_samples": Dataset("data_modules.RealSamplesDataModule", "small real sets with captions from their labels"),
    "roco": Dataset("data_modules.ROCODataModule", "radiology figures with captions, version 1"),
    "roco_v2": Dataset("data_modules.ROCOv2DataModule", "radiology figures with captions, version 2"),
    "sunnybrook": Dataset("data_modules.SunnybrookDataModule", "cardiac MR slices as PNG"),
    "synapse": Dataset("data_modules.SynapseDataModule", "abdominal CT: raw BTCV or TransUNet's npz and HDF5 form"),
}


def class_path_of(name: str) -> str:
    """Find the class path of a dataset's data module.

    Args:
        name: A name in `DATASETS`, or the class path of a data module of one's own ("package.module.Class").

    Raises:
        InputError: The name is neither.
    """
    if name in DATASETS:
        return DATASETS[name].class_path
    if "." in name:
        return name
    near = get_close_matches(name, DATASETS, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise InputError(
        f"data check: no dataset is called '{name}'.{hint} Known: {', '.join(DATASETS)}; "
        "or give the class path of a data module"
    )


def load_class(class_path: str) -> type:
    """Import a data module.

    Raises:
        InputError: There is no such class.
    """
    module, _, name = class_path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"data check: {class_path} cannot be imported ({error})") from error
    if not isinstance(found, type):
        raise InputError(f"data check: {class_path} is no class")
    return found
