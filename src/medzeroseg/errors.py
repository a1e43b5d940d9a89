"""Errors that end a command with a message for a person instead of a traceback.

`medzeroseg.main` prints their text and exits with their `exit_code`: 2 where the command was asked for
something it cannot do (configuration, paths), 1 where a run that had started could not go on.
"""


class MedZeroSegError(Exception):
    """Base of the errors whose message says what is wrong, where, and what to do about it."""

    exit_code = 2


class ConfigurationError(MedZeroSegError):
    """An experiment file or a command-line option is unknown, ill-typed or contradictory."""


class CheckpointError(MedZeroSegError):
    """A checkpoint is missing, unreadable, or was written by another architecture."""


class OutputError(MedZeroSegError):
    """Results cannot be written where they were asked for."""


class NonFiniteLossError(MedZeroSegError):
    """The loss became NaN or infinite during training."""

    exit_code = 1
