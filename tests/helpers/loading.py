"""Drives data loaders in tests."""

import traceback
from collections.abc import Iterable

from medzeroseg.imaging import InputError


def error_of(loader: Iterable[object]) -> str:
    """Iterate until the loader refuses its input, and give the message; "" when it does not.

    The traceback's frames are cleared: they would hold the loader's workers until the garbage collector comes,
    which then waits five seconds for them.
    """
    try:
        for _ in loader:
            pass
    except InputError as error:
        traceback.clear_frames(error.__traceback__)
        return str(error)
    return ""
