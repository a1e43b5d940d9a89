"""DSC of whole cases, added up slice by slice."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric


class CaseDice(Metric):
    """Dice similarity coefficient over all voxels of each case, from slices in any order, on any rank.

    Only three counts a case and structure are kept; the result is that of the assembled volumes. Each slice must come
    once: ranks get whole cases.

    Args:
        case_ids: The cases of the split, of all ranks.
        parts: Structure -> the label ids whose union it is.
        unknown: Label id of voxels that count neither way.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    voxels: Tensor
    members: Tensor

    def __init__(self, case_ids: Sequence[str], parts: Mapping[str, Sequence[int]], unknown: int = 255) -> None:
        super().__init__()
        self.structures = tuple(parts)
        members = torch.zeros(len(parts), 256, dtype=torch.bool)
        for n, ids in enumerate(parts.values()):
            members[n, list(ids)] = True
        self.register_buffer("members", members, persistent=False)
        self.unknown = unknown
        self.positions = {case_id: n for n, case_id in enumerate(case_ids)}
        self.add_state("voxels", torch.zeros(len(case_ids), len(parts), 3, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, case_id: str, prediction: Tensor, reference: Tensor) -> None:
        """Add a slice.

        Args:
            case_id: Its case.
            prediction: (...) uint8 label ids.
            reference: The same shape, uint8 label ids.

        Raises:
            ValueError: The shapes differ.
        """
        if prediction.shape != reference.shape:
            raise ValueError(f"shapes differ: {tuple(prediction.shape)} and {tuple(reference.shape)}")
        known = reference != self.unknown
        found, true = self.members[:, prediction[known].long()], self.members[:, reference[known].long()]
        counts = torch.stack([(found & true).sum(1), found.sum(1), true.sum(1)], dim=1)
        self.voxels[self.positions[case_id]] += counts

    def compute(self) -> Tensor:
        """(cases, structures) float64 in [0, 1]; NaN where prediction and reference are both empty."""
        overlap, found, true = self.voxels.double().unbind(dim=-1)
        return 2 * overlap / (found + true)  # 0 / 0 is the NaN that is promised

    def percentages(self) -> dict[str, Tensor]:
        """`dsc`, the mean over cases of the mean over structures, and `dsc/<structure>` where it is defined.

        A split in which nothing is to be found and nothing was found has 100: a NaN could not be compared.
        """
        # torchmetrics makes a scalar of a single value
        of_cases = 100 * self.compute().reshape(len(self.positions), len(self.structures))
        means = {"dsc": of_cases.nanmean(dim=1).nanmean().nan_to_num(100.0)}
        of_structures = zip(self.structures, of_cases.nanmean(dim=0), strict=True)
        return means | {f"dsc/{name}": mean for name, mean in of_structures if not mean.isnan()}
