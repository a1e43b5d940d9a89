"""ONNX graphs of a model's two towers and of the comparison of patches with texts, checked against torch."""

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medzeroseg.errors import ConfigurationError, MedZeroSegError
from medzeroseg.export.open_clip_check import probe_images
from medzeroseg.models import ImageTextModel
from medzeroseg.saliency import PatchTextEvidence

TOLERANCE = 1e-4
"""Largest difference to torch, relative to the largest magnitude of the output where that is above 1."""
OPSET = 20
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class GraphError(MedZeroSegError):
    """A graph could not be made, or does not compute what torch does."""

    exit_code = 1


class ImageGraph(nn.Module):
    """The image tower with all that belongs to it: DPFEM, patch tower.

    Shapes:
        images ``(B, 3, H, W)`` -> unit embeddings ``(B, D)``, patch features ``(B, D, h, w)``.
    """

    def __init__(self, model: ImageTextModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Embed images and their patches."""
        return self.model.encode_image_and_patches(images)


class TextGraph(nn.Module):
    """The text tower.

    Shapes:
        tokens ``(P, L)``, L the context length -> unit embeddings ``(P, D)``.
    """

    def __init__(self, model: ImageTextModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        """Embed texts."""
        return self.model.encode_text(tokens, whole=True)


class SimilarityGraph(nn.Module):
    """Maps of texts, as `PatchTextEvidence` (models with a patch tower) or `PatchTextSimilarity` make them.

    Args:
        evidence: Whether they are logits of evidence; else cosines.

    Shapes:
        patch features ``(B, D, h, w)``, unit text embeddings ``(P, D)`` -> ``(B, P, h, w)``.
    """

    def __init__(self, evidence: bool) -> None:
        super().__init__()
        self.scale = PatchTextEvidence().scale if evidence else 1.0
        self.normalised = not evidence

    def forward(self, patches: Tensor, texts: Tensor) -> Tensor:
        """Compare every patch with every text."""
        features = F.normalize(patches.float(), dim=1) if self.normalised else patches.float()
        maps = self.scale * torch.matmul(texts, features.flatten(2))
        return maps.reshape(patches.shape[0], texts.shape[0], *patches.shape[2:])


@dataclass(frozen=True)
class _Part:
    """A graph, its names, and probes of two sizes: the graph is traced with one and checked with both."""

    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    free: tuple[str, ...]  # name of the first axis of each input
    probes: tuple[tuple[Tensor, ...], tuple[Tensor, ...]]


def require_packages() -> None:
    """Refuse to begin what cannot end.

    Raises:
        ConfigurationError: A package of the extra `onnx` is missing.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"export --onnx needs {', '.join(missing)}: pip install 'medzeroseg[onnx]' (in a checkout: make setup)"
        )


def write_graphs(model: ImageTextModel, folder: Path) -> dict[str, Any]:
    """Write `image.onnx`, `text.onnx` and `similarity.onnx`, and run each beside torch.

    Args:
        model: In evaluation mode, on the CPU.
        folder: Is made.

    Returns:
        Plain values: what the maps are, and for each graph its inputs, outputs and largest absolute difference.

    Raises:
        ConfigurationError: A package is missing.
        GraphError: A graph cannot be made or differs from torch by more than `TOLERANCE`; it is not left behind.
    """
    require_packages()
    folder.mkdir(parents=True, exist_ok=True)
    parts = _parts(model)
    differences = {name: _write(part, folder / f"{name}.onnx") for name, part in parts.items()}
    graphs = {
        name: {
            "file": f"{folder.name}/{name}.onnx",
            "inputs": list(part.inputs),
            "outputs": list(part.outputs),
            "max_abs_difference": differences[name],
        }
        for name, part in parts.items()
    }
    maps = "logits of evidence; their sigmoid is a probability" if model.patch_tower is not None else "cosines, -1..1"
    return {"opset": OPSET, "tolerance": TOLERANCE, "maps": maps, "graphs": graphs}


def check_graph(path: Path, module: nn.Module, probes: Mapping[str, Tensor]) -> float:
    """Largest absolute difference between a graph in onnxruntime and the module in torch.

    Args:
        path: The graph.
        module: What it was made from.
        probes: Input name -> values, in the order of the module's arguments.

    Raises:
        GraphError: It cannot run, or differs by more than `TOLERANCE`; the file is removed.
    """
    import onnxruntime

    with torch.no_grad():
        expected = module(*probes.values())
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        found = session.run(None, {name: value.numpy() for name, value in probes.items()})
    except Exception as error:  # onnxruntime's errors have no common base
        _remove(path)
        raise GraphError(f"{path.name}: onnxruntime cannot run the graph: {_first_line(error)}") from error
    worst = 0.0
    for ours, theirs in zip([expected] if isinstance(expected, Tensor) else expected, found, strict=True):
        other = torch.from_numpy(theirs)
        allowed = TOLERANCE * max(1.0, float(ours.abs().max()))
        difference = float((ours - other).abs().max()) if ours.shape == other.shape else float("inf")
        if not difference <= allowed:
            _remove(path)
            raise GraphError(
                f"{path.name} is not written: onnxruntime differs from torch by {difference:.3g}, more than "
                f"{allowed:.3g}, for inputs of shape {[tuple(value.shape) for value in probes.values()]}"
            )
        worst = max(worst, difference)
    return worst


def _parts(model: ImageTextModel) -> dict[str, _Part]:
    words = ["left ventricle", "a liver with a small lesion in its right lobe", "lungs", "spleen", "kidney"]
    tokens, images = model.tokenizer(words), probe_images(model, 3)
    with torch.no_grad():
        patches, texts = model.encode_image_and_patches(images)[1], model.encode_text(tokens)
    evidence = model.patch_tower is not None
    return {
        "image": _Part(
            ImageGraph(model), ("images",), ("image_embeddings", "patches"), ("images",), ((images,), (images[:1],))
        ),
        "text": _Part(TextGraph(model), ("tokens",), ("text_embeddings",), ("texts",), ((tokens,), (tokens[:1],))),
        "similarity": _Part(
            SimilarityGraph(evidence),
            ("patches", "text_embeddings"),
            ("maps",),
            ("images", "texts"),
            ((patches, texts), (patches[:1], texts[:2])),
        ),
    }


def _write(part: _Part, path: Path) -> float:
    axes = tuple({0: torch.export.Dim(name)} for name in part.free)
    part.module.eval()
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of torch about itself
            torch.onnx.export(
                part.module,
                part.probes[0],
                str(path),
                input_names=list(part.inputs),
                output_names=list(part.outputs),
                dynamic_shapes=axes,
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # torch's exporter raises what its passes raise
        _remove(path)
        raise GraphError(f"{path.name}: torch cannot make a graph of this model: {_first_line(error)}") from error
    finally:
        logging.disable(before)
    return max(check_graph(path, part.module, dict(zip(part.inputs, probe, strict=True))) for probe in part.probes)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
