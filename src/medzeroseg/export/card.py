"""The model card: what the model is, what it learned from, how it did, and what it must not be used for.

It is made of the run's own records. Paths stay out of it: they may name people or patients.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from medzeroseg import __version__
from medzeroseg.errors import ConfigurationError
from medzeroseg.tables import Table
from medzeroseg.tables.records import RECORD_NAME

_TERMS = {
    "Phantom": "synthetic pictures drawn by the project from a seed; no patients, no terms",
    "ROCOv2": "ROCO v2 (Rückert et al., 2024): each image under its article's Creative Commons licence",
    "ROCO": "ROCO v1 (Pelka et al., LABELS 2018): each image under its article's Creative Commons licence",
    "MedPix": "MedPix: its owners' terms",
}
"""Beginning of a data module's name -> what its data are, and under which terms."""
_SETTINGS = ("train", "validation", "test", "batch_size", "image_size_px", "max_train_pairs", "hard_negative_fraction")
_TRAINER = ("max_epochs", "max_steps", "precision", "accumulate_grad_batches", "gradient_clip_val")

_LIMITS = """\
- **Not a medical device.** Not for diagnosis, treatment, triage or any decision about a patient. Research only.
- A mask is where the model's evidence for some words is; it is no measurement, and nobody has validated it clinically.
- It gives an answer for words and images that it never saw. Check each model and method against chance and against its
  own negation on labelled images of your own kind before you believe a map.
- Figures below are of the data named there. They say nothing about other scanners, protocols, ages or diseases.
- Scores are comparable within this model alone.
"""


@dataclass(frozen=True)
class Facts:
    """What is known of a model beside its weights.

    Attributes:
        name: Title of the card.
        architecture: `ImageTextModel.signature`.
        origin: File name and SHA-256 of the checkpoint.
        config: The run's configuration (`model`, `data`, `trainer`); empty where the checkpoint holds none.
        record: The run's `retrieval.json`; None where it was not tested.
        is_tested_checkpoint: Whether the record is of this very checkpoint (`best.ckpt`), not of a sibling.
        results: Tables of further runs that were tested with this model.
        licence: SPDX identifier of the weights, or `other`; None: by the data.
    """

    name: str
    architecture: str
    origin: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] | None = None
    is_tested_checkpoint: bool = True
    results: Sequence[Table] = ()
    licence: str | None = None


def read_record(run: Path) -> dict[str, Any] | None:
    """The record of a run's test, or None where there is none.

    Raises:
        ConfigurationError: It is damaged.
    """
    path = run / RECORD_NAME
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        dict(content["metrics"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ConfigurationError(f"{path} cannot be read ({error!r}); test that run again, or remove it") from error
    return dict(content)


def write_card(facts: Facts, own: Mapping[str, Any], onnx: Mapping[str, Any] | None) -> str:
    """The text of the card.

    Args:
        facts: What is known.
        own: The `medzeroseg` section of the folder's configuration, with `open_clip`.
        onnx: From `write_graphs`, or None.

    Returns:
        Markdown with the hub's metadata in front.
    """
    data = _class_name(facts.config.get("data"))
    licence = facts.licence or ("mit" if data.startswith("Phantom") else "other")
    head = {
        "library_name": "medzeroseg",
        "license": licence,
        "pipeline_tag": "zero-shot-image-classification",
        "tags": ["medical", "image-text", "zero-shot-segmentation", "not-a-medical-device"],
    }
    sections = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n",
        f"# {facts.name}\n",
        "Image-text model for zero-shot medical image segmentation from words, exported by medzeroseg "
        f"{__version__}, a framework around doi 10.1371/journal.pone.0344978. **Not a medical device.**\n",
        "## Use\n",
        _use(own, onnx),
        "## Limits\n",
        _LIMITS,
        "## Model\n",
        _lines({"architecture": facts.architecture, **_parts(own), **_origin(facts.origin)}),
        "## Training data\n",
        _data(facts.config.get("data"), data),
        "## Training\n",
        _training(facts.config),
        "## Results\n",
        _results(facts),
        "## Licence\n",
        _licence(licence),
    ]
    return "\n".join(sections)


def _use(own: Mapping[str, Any], onnx: Mapping[str, Any] | None) -> str:
    text = (
        '```python\nimport medzeroseg\n\nmodel = medzeroseg.from_pretrained("FOLDER")  # or hf-hub:OWNER/REPO\n```\n\n'
        '```bash\nmedzeroseg segment image.png --text "left ventricle" --checkpoint FOLDER --output out\n```\n\n'
    )
    check = own["open_clip"]
    if not check["loads"]:
        text += f"open_clip cannot load this folder: {check['reason']}\n"
    else:
        first = (
            f"import {check['needs_import']}  # registers the image trunk with timm\n" if check["needs_import"] else ""
        )
        text += (
            f"open_clip loads the two towers:\n\n```python\n{first}import open_clip\n\n"
            'model, _, preprocess = open_clip.create_model_and_transforms("local-dir:FOLDER")\n```\n\n'
        )
        if check["equal"]:
            text += "Its embeddings were compared with ours at the export and are equal.\n"
        else:
            text += f"Its embeddings are **not** ours: {check['reason']}.\n"
    if onnx is not None:
        rows = [
            f"| `{graph['file']}` | {', '.join(graph['inputs'])} | {', '.join(graph['outputs'])} "
            f"| {graph['max_abs_difference']:.1e} |"
            for graph in onnx["graphs"].values()
        ]
        text += (
            f"\nONNX graphs (opset {onnx['opset']}), with any number of images and texts. Maps are {onnx['maps']}.\n\n"
            "| file | inputs | outputs | largest difference to torch |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
        )
    return text


def _parts(own: Mapping[str, Any]) -> dict[str, str]:
    given = own["init_args"]
    named = {"DPFEM": given.get("dpfem"), "patch tower": given.get("patch_tower")}
    return {"parts": ", ".join(["two towers", *(name for name, value in named.items() if value)])}


def _origin(origin: Mapping[str, Any]) -> dict[str, str]:
    return {key: f"`{origin[key]}`" for key in ("checkpoint", "sha256") if key in origin}


def _data(config: object, name: str) -> str:
    if not name:
        return "The checkpoint does not say what it was trained on.\n"
    terms = next((text for start, text in _TERMS.items() if name.startswith(start)), "see its owners' terms")
    given = config.get("init_args") or {} if isinstance(config, dict) else {}
    settings = {key: given[key] for key in _SETTINGS if given.get(key) is not None}
    return f"`{name}`: {terms}.\n\n" + _lines(settings)


def _training(config: Mapping[str, Any]) -> str:
    task = config.get("model") or {}
    given = task.get("init_args") or {}
    if not given:
        return "The checkpoint does not say how it was trained.\n"
    losses = {key: given[key] for key in ("loss", "window_loss") if given.get(key)}
    lines = {name.replace("_", " "): _described(loss) for name, loss in losses.items()}
    lines["optimizer"] = _described(given.get("optimizer"))
    trainer = {key: value for key, value in (config.get("trainer") or {}).items() if key in _TRAINER}
    lines |= {key.replace("_", " "): str(value) for key, value in trainer.items() if value not in (None, -1)}
    return _lines({key: value for key, value in lines.items() if value})


def _results(facts: Facts) -> str:
    parts = []
    if facts.record is None:
        parts.append("No test of this run was recorded.\n")
    else:
        record = facts.record
        whose = (
            "this checkpoint" if facts.is_tested_checkpoint else "**the run's best checkpoint, which is another one**"
        )
        parts.append(
            f"Retrieval on the test split of `{record.get('dataset')}`, seed {record.get('seed')}, of {whose}: "
            f"recall in percent, gallery of {record.get('test_pairs')} pairs "
            f"(`_of{record.get('small_gallery')}`: galleries of that size).\n"
        )
        rows = [f"| {name} | {float(value):.1f} |" for name, value in sorted(record["metrics"].items())]
        parts.append("| metric | % |\n|---|---|\n" + "\n".join(rows) + "\n")
        parts.append(f"Code revision `{record.get('git_revision')}`, configuration `{record.get('config_hash')}`.\n")
    parts += [table.to_markdown() for table in facts.results]
    return "\n".join(parts)


def _licence(licence: str) -> str:
    return (
        f"Weights: `{licence}`. Where it says `other`, they carry the terms of the data and of the released model that "
        "they came from, as named above; who passes them on answers for that. The code that reads them is MIT.\n"
    )


def _class_name(config: object) -> str:
    path = config.get("class_path") if isinstance(config, dict) else None
    return str(path).rpartition(".")[2] if path else ""


def _described(config: object) -> str:
    """A class and its settings in one line; words with a slash are left out, since they may be paths."""
    if not isinstance(config, dict) or "class_path" not in config:
        return ""
    given = config.get("init_args") or {}
    plain = {
        key: value for key, value in given.items() if isinstance(value, int | float | str) and "/" not in str(value)
    }
    return f"`{_class_name(config)}`" + (f" ({', '.join(f'{k} {v}' for k, v in plain.items())})" if plain else "")


def _lines(values: Mapping[str, object]) -> str:
    return "".join(f"- {key.replace('_', ' ')}: {value}\n" for key, value in values.items())
