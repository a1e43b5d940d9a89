"""The methods that a run compares, as one object that an experiment can name by file."""

from collections.abc import Iterator, Mapping
from typing import cast

from torch import nn

from medzeroseg.errors import ConfigurationError
from medzeroseg.models import ImageTextModel
from medzeroseg.zero_shot.method import ZeroShotMethod


class MethodTable(nn.Module):
    """Key of a row, such as `gscorecam`, to its method, in the order of the rows.

    Args:
        methods: The rows.

    Raises:
        ValueError: There is no method.
    """

    def __init__(self, methods: dict[str, ZeroShotMethod]) -> None:
        super().__init__()
        if not methods:
            raise ValueError("methods: name at least one, e.g. gradcam")
        self.rows = nn.ModuleDict(methods)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def __iter__(self) -> Iterator[str]:
        """Keys of the rows."""
        return iter(self.rows)

    def __getitem__(self, key: str) -> ZeroShotMethod:
        """The method of a row."""
        return cast(ZeroShotMethod, self.rows[key])

    def items(self) -> list[tuple[str, ZeroShotMethod]]:
        """Keys and methods."""
        return [(key, self[key]) for key in self.rows]

    @property
    def guided(self) -> list[str]:
        """Keys of the rows whose post-processing wants the model's dense features."""
        return [key for key, method in self.items() if method.guided]

    def shared_saliency(self) -> Mapping[str, list[str]]:
        """First key to the keys of all rows whose saliency has the same class and settings: one map serves them."""
        groups: dict[tuple[type, str], list[str]] = {}
        for key, method in self.items():
            settings = repr(sorted(vars(method.saliency).items()))
            groups.setdefault((type(method.saliency), settings), []).append(key)
        return {keys[0]: keys for keys in groups.values()}

    def check_model(self, model: ImageTextModel) -> None:
        """Refuse, before any image is read, a model that a method cannot work on.

        Raises:
            ConfigurationError: Names the row and what it lacks.
        """
        for key, method in self.items():
            try:
                method.check_model(model)
            except ValueError as error:
                raise ConfigurationError(
                    f"methods: {key}: {error}. Leave the row out, or take a file of methods that fit this model "
                    "(experiments/parts/zeroshot_methods.yaml fits every model)"
                ) from error
