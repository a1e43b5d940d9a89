"""Parsing an experiment as `medzeroseg fit` does, and stopping there."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.cli import ArgsType, LightningArgumentParser

from medzeroseg.cli import ExperimentCLI


class _Parsed(Exception):  # noqa: N818 - ends the parse, not a fault
    """The resolved configuration."""


class _ParseOnly(ExperimentCLI):
    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        super().parse_arguments(parser, args)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as the run writes it, deprecated option included
            raise _Parsed(self._parser("fit").dump(self.config["fit"], skip_none=False))


def parse_experiment(file: Path, options: Sequence[str]) -> str:
    """Resolve an experiment's configuration.

    Args:
        file: The experiment's YAML.
        options: Options of `medzeroseg fit` that override it.

    Returns:
        The YAML that its run would write to `config.yaml`.

    Raises:
        ConfigurationError: It is not valid.
    """
    try:
        _ParseOnly(["fit", "--config", str(file), *options])
    except _Parsed as parsed:
        return str(parsed)
    raise AssertionError("the parser did not come to its end")
