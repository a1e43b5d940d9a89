"""Makes a data module from `key=value` texts, with the types of its constructor."""

import argparse
import inspect
import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from medzeroseg.imaging.errors import InputError


def build_module(cls: type[Any], root: Path, options: Sequence[str]) -> Any:  # noqa: ANN401 - an instance of `cls`
    """Make a data module as an experiment file would.

    Args:
        cls: Its class; options that it passes on to its bases are known, too.
        root: The dataset's folder.
        options: Texts `key=value`, each value as in YAML ("null", "3", "[a, b]").

    Raises:
        InputError: An option is unknown, ill-typed or refused; names it, and the known ones.
    """
    parser = ArgumentParser(exit_on_error=False)
    known = parser.add_class_arguments(cls, skip={"root"})
    if "root" not in inspect.signature(cls).parameters:
        raise InputError(f"data check: {cls.__name__} takes no root; it is no data module of a folder")
    words = []
    for option in options:
        key, equals, _ = option.partition("=")
        if not equals:
            raise InputError(f"data check: --option {option}: expected key=value")
        if key.partition(".")[0] not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise InputError(
                f"data check: --option {key}: {cls.__name__} has no such option{hint} It has {', '.join(sorted(known))}"
            )
        words.append(f"--{option}")
        try:
            parser.parse_args(words)
        except argparse.ArgumentError as error:
            raise InputError(f"data check: --option {option}: {_reason(str(error))}") from error
    try:
        return cls(root, **parser.instantiate(parser.parse_args(words)).as_dict())
    except ValueError as error:
        raise InputError(f"data check: --option: {error}") from error


def _reason(message: str) -> str:
    """Leave the parser's own words and its dumps out of its message."""
    plain = re.sub(r"<class '([\w.]+)'>", r"\1", message).replace("typing.", "")
    expected = re.search(r"Expected an? (.+)\. Got value", plain)
    if expected:
        return f"expected {expected[1]}"
    # One line for each type that would do, if the value fitted it.
    listed = plain.partition("Errors:")[2].partition("Given value type")[0] or plain.partition(":")[2]
    lines = [line.strip(" -") for line in listed.splitlines() if line.strip() and "NoneType" not in line]
    return " ".join(lines)
