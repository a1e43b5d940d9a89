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


class NonFiniteGradientError(MedZeroSegError):
    """A gradient became NaN or infinite while the loss was finite."""

    exit_code = 1


class OutOfMemoryError(MedZeroSegError):
    """The accelerator's memory, or the machine's, is used up."""

    exit_code = 1


class CompilationError(MedZeroSegError):
    """`torch.compile` could not compile a part of the network."""

    exit_code = 1


class DeadWorkerError(MedZeroSegError):
    """A process that reads data has died."""

    exit_code = 1


class LostRankError(MedZeroSegError):
    """Another process of the job has ended or does not answer."""

    exit_code = 1


class StoppedError(MedZeroSegError):
    """The training was asked to stop, and can go on from its checkpoint."""

    exit_code = 75  # EX_TEMPFAIL: try again
