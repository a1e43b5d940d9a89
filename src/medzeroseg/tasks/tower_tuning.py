"""How the two towers of an image-text model are trained."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from medzeroseg.models import ImageTextModel
from medzeroseg.parameter_groups import LR_SCALE, Group, layer_decayed_groups, parameter_groups

TowerName = Literal["image", "text"]


@dataclass(frozen=True)
class TowerTuning:
    """What is trained of each tower, how fast, and what its backward pass keeps in memory.

    Layers are counted from the input; the first is the embedding or stem, the others are the blocks. The last norm and
    the projection to the joint space belong to none, nor do DPFEM and the patch tower.

    Args:
        freeze_image: Train nothing in so many first layers of the image tower, or in `all` of it. They stay in
            evaluation mode and the optimizer keeps nothing for them.
        freeze_text: The same of the text tower.
        layer_decay: What the learning rate of a layer is multiplied by for the layer below it, in (0, 1]; 1: all learn
            at one rate. See `parameter_groups.layer_decayed_groups`.
        added_lr_scale: What the learning rate of DPFEM and the patch tower is multiplied by, above 0. They start
            untrained: beside pretrained towers, whose rate must be small, they would hardly learn at the same one.
        gradient_checkpointing: Towers that compute their activations again in the backward pass instead of keeping
            them. The gradients are the same.

    Raises:
        ValueError: `layer_decay` or `added_lr_scale` is out of its range.
    """

    freeze_image: int | Literal["all"] = 0
    freeze_text: int | Literal["all"] = 0
    layer_decay: float = 1.0
    added_lr_scale: float = 1.0
    gradient_checkpointing: tuple[TowerName, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would fail when the training starts."""
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay must be in (0, 1], got {self.layer_decay}")
        if not self.added_lr_scale > 0:
            raise ValueError(f"added_lr_scale must be above 0, got {self.added_lr_scale}")

    def apply(self, model: ImageTextModel) -> list[nn.Module]:
        """Freeze layers and let towers recompute.

        Returns:
            The frozen modules, which should stay in evaluation mode.

        Raises:
            ValueError: A tower has not so many layers, or cannot recompute; names it. Or `added_lr_scale` is given, and
                nothing was added.
            InputError: The layers of a tower are not known.
        """
        if self.added_lr_scale != 1 and not _added(model):
            raise ValueError("added_lr_scale is for DPFEM and the patch tower, and the model has neither: leave it out")
        for name in self.gradient_checkpointing:
            model.towers[name].set_grad_checkpointing(True)
        frozen = {"image": self.freeze_image, "text": self.freeze_text}
        return [module for name, layers in frozen.items() if layers for module in model.towers[name].freeze(layers)]

    def groups(self, model: ImageTextModel, named_parameters: Iterable[tuple[str, nn.Parameter]]) -> list[Group]:
        """Parameter groups of a task.

        Args:
            model: The model in it.
            named_parameters: The task's parameters.

        Raises:
            InputError: The layers of a tower are not known.
        """
        named = list(named_parameters)
        apart = set() if self.added_lr_scale == 1 else _added(model)
        added = [(name, parameter) for name, parameter in named if id(parameter) in apart]
        others = [(name, parameter) for name, parameter in named if id(parameter) not in apart]
        if self.layer_decay == 1:
            groups = parameter_groups(others)
        else:
            towers = {name: tower.layers() for name, tower in model.towers.items()}
            groups = layer_decayed_groups(others, towers, self.layer_decay)
        return groups + [
            {**group, "name": "added.no_decay" if "weight_decay" in group else "added", LR_SCALE: self.added_lr_scale}
            for group in parameter_groups(added)
        ]


def _added(model: ImageTextModel) -> set[int]:
    """Ids of the parameters of what the model has beside its two towers."""
    parts = (model.dpfem, model.patch_tower, model.patch_dpfem)
    return {id(parameter) for part in parts if part is not None for parameter in part.parameters()}
