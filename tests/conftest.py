"""Fixtures shared by every test."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples each time: whether a change is at fault must not depend on a draw.
settings.register_profile("fixed", derandomize=True)
settings.load_profile("fixed")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The root of the checkout, where `experiments/` lies."""
    return ROOT


@pytest.fixture(scope="session")
def real_samples() -> Path:
    """The folder of small real images beside the checkout."""
    folder = Path(os.environ.get("REAL_SAMPLES", ROOT.parent / "shared" / "real_samples"))
    if not folder.is_dir():
        pytest.skip(f"real samples are not at hand: no folder {folder}")
    return folder
