"""What looks at a zero-shot run while its cases pass: maps of a batch, and each method's masks of a case."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback
from torch import Tensor

from medzeroseg.zero_shot.assembly import AssembledCase
from medzeroseg.zero_shot.method import CaseSegmentation


class ZeroShotObserver(Callback):
    """Base of callbacks that `ZeroShotSegmentationTask` calls between its own steps; none of it counts as method time.

    Masks of all methods of all cases would fill the memory: an observer keeps the little it needs.
    """

    def on_zero_shot_start(self, task: Any) -> None:  # noqa: ANN401 - ZeroShotSegmentationTask, which imports this
        """Called once, when the prompts are embedded and before the first batch.

        Args:
            task: The task: `structures`, `methods`, `model`, `library`.
        """

    def on_maps(self, task: Any, batch: Mapping[str, Any], maps: Mapping[str, Tensor]) -> None:  # noqa: ANN401
        """Called for each batch.

        Args:
            task: The task.
            batch: As the data module made it.
            maps: First of the methods that share it (`MethodTable.shared_saliency`) -> raw saliency
                (B, P + C, h, w): of the P structures, then of the C prompts for comparison.
        """

    def on_case(self, task: Any, method: str, case: AssembledCase, found: CaseSegmentation) -> None:  # noqa: ANN401
        """Called for each case and method.

        Args:
            task: The task.
            method: Key of the method.
            case: The case with its reference; its `maps` are keyed by the first of the methods that share them.
            found: What the method segmented.
        """
