"""What looks at a test while its cases pass: maps of a batch, and each method's masks of a case."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, Trainer
from torch import Tensor

from medzeroseg.zero_shot.assembly import AssembledCase
from medzeroseg.zero_shot.method import CaseSegmentation


class CaseObserver(Callback):
    """Base of callbacks that tasks which segment cases call in a test, between their own steps.

    None of it counts as method time. Masks of all methods of all cases would fill the memory: an observer keeps the
    little it needs.
    """

    def on_cases_start(self, task: Any) -> None:  # noqa: ANN401 - a task of medzeroseg.tasks, which imports this
        """Called once, before the first batch; a zero-shot task has embedded its prompts.

        Args:
            task: The task: `structures`, `method_results()`; of a zero-shot task also `methods`, `model`, `library`.
        """

    def on_maps(self, task: Any, batch: Mapping[str, Any], maps: Mapping[str, Tensor]) -> None:  # noqa: ANN401
        """Called for each batch of a zero-shot task.

        Args:
            task: The task.
            batch: As the data module made it.
            maps: First of the methods that share it (`MethodTable.shared_saliency`) -> raw saliency
                (B, P + C, h, w): of the P structures, then of the C prompts for comparison.
        """

    def on_case(self, task: Any, method: str, case: AssembledCase, found: CaseSegmentation) -> None:  # noqa: ANN401
        """Called for each case and method; of one case for all methods before the next.

        Args:
            task: The task.
            method: Key of the method.
            case: The case with its reference; its `maps` are keyed by the first of the methods that share them.
            found: What the method segmented.
        """


def case_observers(trainer: Trainer) -> list[CaseObserver]:
    """The observers among a trainer's callbacks."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by Lightning
    return [one for one in callbacks if isinstance(one, CaseObserver)]
