"""What the examples of the documentation look at: a small phantom, and a checkpoint with random weights."""

from pathlib import Path

import pytest

from data_modules import PhantomROCODataModule
from tests.helpers.fake_inference import write_checkpoint


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "phantom"
    PhantomROCODataModule(root, train=8, validation=4, test=12, phantom_workers=0).prepare_data()
    return root


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.ckpt")
