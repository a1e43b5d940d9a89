"""The error for input that cannot be used, shared by the readers and the data modules."""

import re


class InputError(Exception):
    """A file or folder given by the user cannot be used.

    The message is meant for a person: what is wrong, where (file, case id), and what to do about it.
    The command line prints it without a traceback and exits with code 2.

    A `torch.utils.data.DataLoader` raises an error of a worker process again in the main process, by calling
    its class with the worker's whole traceback as the one argument. The sentence at the end of that traceback
    is what the user needs, so the constructor keeps only it: `str(error)` does not depend on the number of
    workers.
    """

    def __init__(self, message: str) -> None:
        """Keep the message for the user.

        Args:
            message: One or more plain sentences, or the traceback text that `DataLoader` hands over.
        """
        super().__init__(_without_worker_traceback(message, type(self).__name__))


def _without_worker_traceback(message: str, class_name: str) -> str:
    if not re.match(rf"Caught {class_name} in \w+ (worker|thread|replica)", message):
        return message
    # The last "module.Class: " at a line's beginning opens the raised error; those before it are its causes.
    openings = list(re.finditer(rf"^[\w.]*\b{class_name}: ", message, flags=re.MULTILINE))
    return message[openings[-1].end() :].rstrip() if openings else message
