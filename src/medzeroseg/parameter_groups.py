"""Parameter groups for optimizers: what decays, and which layer learns how fast."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import nn

Group = dict[str, Any]
LR_SCALE = "lr_scale"
"""Key of a group: what its learning rate is in units of the optimizer's."""


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]], decay: Callable[[nn.Parameter], bool] | None = None
) -> list[Group]:
    """Split trainable parameters into one group with weight decay and one without.

    Args:
        named_parameters: The model's parameters; frozen ones are left out.
        decay: Whether a parameter decays; default: those of two or more dimensions.

    Returns:
        Groups for a torch optimizer; the second sets `weight_decay` to 0. Empty groups are left out.
    """
    decays = decay or (lambda parameter: parameter.ndim >= 2)
    trainable = [parameter for _, parameter in named_parameters if parameter.requires_grad]
    groups: list[Group] = [
        {"params": [p for p in trainable if decays(p)]},
        {"params": [p for p in trainable if not decays(p)], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def layer_decayed_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    towers: Mapping[str, Sequence[Sequence[nn.Module | nn.Parameter]]],
    factor: float,
) -> list[Group]:
    """Groups whose learning rate falls from the output of each tower to its input.

    As in ELECTRA (Clark et al., ICLR 2020) and BEiT (Bao et al., ICLR 2022): of a tower's L layers, layer l (0 is the
    embedding) learns at `factor` to the power L - l of the rate; last norms, projections and all else at the rate
    itself.

    Args:
        named_parameters: The model's parameters; frozen ones are left out.
        towers: Name of each tower -> its layers from the input.
        factor: From one layer to the one below it, in (0, 1].

    Returns:
        Groups for a torch optimizer, from the input: `name` (`image.0`, `image.0.no_decay`, ..., `rest`), `lr_scale`
        (`scale_learning_rates` puts it to use), and `weight_decay` 0 for what does not decay.

    Raises:
        ValueError: `factor` is out of its range.
    """
    if not 0 < factor <= 1:
        raise ValueError(f"layer_decay must be in (0, 1], got {factor}")
    places = {
        id(parameter): (f"{tower}.{n}", factor ** (len(layers) - n))
        for tower, layers in towers.items()
        for n, layer in enumerate(layers)
        for part in layer
        for parameter in ([part] if isinstance(part, nn.Parameter) else part.parameters())
    }
    rest = ("rest", 1.0)
    layers: dict[tuple[str, float], list[tuple[str, nn.Parameter]]] = {place: [] for place in places.values()}
    layers[rest] = []
    for name, parameter in named_parameters:
        layers[places.get(id(parameter), rest)].append((name, parameter))
    return [
        {**group, "name": name if "weight_decay" not in group else f"{name}.no_decay", LR_SCALE: scale}
        for (name, scale), members in layers.items()
        for group in parameter_groups(members)
    ]


def scale_learning_rates(groups: Iterable[Group]) -> None:
    """Multiply each group's learning rate by its `lr_scale`, once the optimizer has set it and before a schedule."""
    for group in groups:
        group["lr"] = group["lr"] * group.get(LR_SCALE, 1.0)
