"""Items of the phantom, drawn once for the tests of scenes and of captions."""

import pytest

from data_modules.phantom.items import Item
from tests.helpers.phantom_items import make_items


@pytest.fixture(scope="session")
def items() -> list[Item]:
    return make_items()
