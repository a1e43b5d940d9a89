"""A table of methods as experiments write it."""

from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from medzeroseg.zero_shot.method import ZeroShotMethod
from medzeroseg.zero_shot.method_table import MethodTable


class ConfiguredMethods(MethodTable):
    """Rows given by the arguments of `ZeroShotMethod`, with class paths for its parts.

        rows:
          gradcam:
            saliency: {class_path: medzeroseg.saliency.GradCAM}
        and_also: other_methods.yaml

    An experiment names a file of this form (`methods: parts/zeroshot_methods.yaml`), so that all share one.

    The rows are plain values to the command line and are made into objects here, once: as arguments of their own, a
    dozen methods with their parts would cost the command line seconds at each start.

    Args:
        rows: Key -> arguments of its `ZeroShotMethod`.
        and_also: The rows that follow. Of a key in both, the first rows' method is taken: naming another file on the
            command line keeps the former file's `and_also` where the new one has none.

    Raises:
        ValueError: An argument is unknown or out of range; names the row.
    """

    def __init__(self, rows: dict[str, dict[str, Any]], and_also: MethodTable | None = None) -> None:
        methods = {key: build_method(key, arguments) for key, arguments in rows.items()}
        more = {} if and_also is None else dict(and_also.items())
        super().__init__(methods | {key: method for key, method in more.items() if key not in methods})


def build_method(key: str, arguments: dict[str, Any]) -> ZeroShotMethod:
    """Make a method of plain values.

    Args:
        key: Of the row, for messages.
        arguments: Of `ZeroShotMethod`.

    Raises:
        ValueError: An argument is unknown or out of range.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(ZeroShotMethod, "method")
    try:
        method: ZeroShotMethod = parser.instantiate(parser.parse_object({"method": arguments})).method
    except (ArgumentError, ValueError) as error:
        raise ValueError(f"methods: {key}: {error}") from error
    return method
