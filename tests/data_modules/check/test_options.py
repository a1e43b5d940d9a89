from pathlib import Path

import pytest

from data_modules import ACDCDataModule, MedPixDataModule
from data_modules.check.options import build_module
from data_modules.check.registry import DATASETS, class_path_of, load_class
from data_modules.splits import SplitDataModule
from medzeroseg.imaging import InputError


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_of_the_list_is_a_data_module(name: str):
    assert issubclass(load_class(class_path_of(name)), SplitDataModule)


def test_names_that_are_none(tmp_path: Path):
    with pytest.raises(InputError, match=r"'acdk'\. Did you mean acdc\? Known: acdc, "):
        class_path_of("acdk")
    for path in ("data_modules.NoSuchThing", "no_such_package.Thing"):
        with pytest.raises(InputError, match=f"{path} cannot be imported"):
            load_class(class_path_of(path))
    with pytest.raises(InputError, match="is no class"):
        load_class("data_modules.pairs.ImageTransform")


def test_options_have_the_types_of_the_constructor_and_of_its_bases(tmp_path: Path):
    options = ["corrupt=skip", "max_test_cases=3", "split=ssl4mis", "eval_batch_size=null", "drop_last=false"]
    dm = build_module(ACDCDataModule, tmp_path, [*options, "cache_dir=null"])
    assert (dm.corrupt, dm.limits["test"], dm.split, dm.drop_last) == ("skip", 3, "ssl4mis", False)
    assert dm.root == tmp_path
    assert build_module(MedPixDataModule, tmp_path, ["train_fraction=0.5"]).train_fraction == 0.5


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("corupt=skip", r"--option corupt: ACDCDataModule has no such option; did you mean corrupt\? It has augment"),
        ("root=x", "--option root: ACDCDataModule has no such option"),
        ("corrupt", "--option corrupt: expected key=value"),
        ("corrupt=maybe", r"--option corrupt=maybe: expected Literal\['error', 'skip'\]"),
        ("seed=x", "--option seed=x: expected int"),
        ("augmentation=foo.Bar", "--option augmentation=foo.Bar: .*No module named 'foo'"),
        ("batch_size=0", "batch_size must be at least 1, got 0"),
    ],
)
def test_options_that_do_not_fit_are_named(tmp_path: Path, option: str, message: str):
    with pytest.raises(InputError, match=message):
        build_module(ACDCDataModule, tmp_path, [option])
