"""What a user says of a folder of labelled images, in `dataset.yaml`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import yaml

from data_modules.case_sources import View
from data_modules.cases import IGNORE, MAX_LABEL
from medzeroseg.imaging import WINDOWS_HU, FixedWindow, InputError, PercentileWindow, Window

_KEYS = ("labels", "images", "masks", "modality", "window", "view", "patient", "parts", "splits", "ignore")


@dataclass(frozen=True)
class FolderDescription:
    """A folder of labelled images.

    Attributes:
        labels: Label id to name.
        images: Pattern of the image files below the root, with `{id}` for the case: "images/{id}.nii.gz".
        label_maps: Pattern of the label maps; None where there are `masks`, or no reference at all.
        masks: Label name to the pattern of its binary masks.
        modality: What the images are, in words.
        window: How intensities become grey levels; None for the default of pictures or volumes.
        view: How the slices of volumes are laid out.
        patient: Regular expression, found in a case's id; its first group names the patient. None: each case is one.
        parts: Structure to label ids, where that is not one each.
        splits: "train", "val", "test" to ids, or None where they are chosen by hash.
        ignore: The id that stands for "unknown" in the label maps, or None.
        channels: Channel names in order, where a case has one file for each; their files end in `_0000` and so on.
        test_images: As `images`, for images that only test.
        test_label_maps: As `label_maps`, for those.
    """

    labels: Mapping[int, str]
    images: str
    label_maps: str | None = None
    masks: Mapping[str, str] = field(default_factory=dict)
    modality: str = "medical image"
    window: Window | None = None
    view: View = "axial"
    patient: str | None = None
    parts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    splits: Mapping[str, list[str]] | None = None
    ignore: int | None = None
    channels: tuple[str, ...] = ()
    test_images: str | None = None
    test_label_maps: str | None = None


def read_description(path: Path) -> FolderDescription:
    """Read a `dataset.yaml`.

    Raises:
        InputError: It is missing, no YAML, or a key is unknown, missing or of another kind; names the key.
    """
    values = read_mapping(path)
    unknown = [key for key in values if key not in _KEYS]
    if unknown:
        raise InputError(f"{path}: unknown key '{unknown[0]}'; known are {', '.join(_KEYS)}")
    images = _text(path, values, "images")
    if images is None:
        raise InputError(f"{path}: 'images' is missing; write for example images: \"images/{{id}}.nii.gz\"")
    masks = values.get("masks")
    if isinstance(masks, dict):
        by_name = {str(name): _pattern(path, f"masks: {name}", pattern) for name, pattern in masks.items()}
        label_maps = None
    else:
        by_name, label_maps = {}, None if masks is None else _pattern(path, "masks", masks)
    labels = _labels(path, values.get("labels"), list(by_name))
    view = _text(path, values, "view") or "axial"
    if view not in get_args(View):
        raise InputError(f"{path}: view: '{view}' is unknown; known are {', '.join(get_args(View))}")
    return FolderDescription(
        labels=labels,
        images=_pattern(path, "images", images),
        label_maps=label_maps,
        masks=by_name,
        modality=_text(path, values, "modality") or "medical image",
        window=_window(path, values.get("window")),
        view="stored" if view == "stored" else "axial",
        patient=_text(path, values, "patient"),
        parts=_parts(path, values.get("parts"), labels),
        splits=None if values.get("splits") is None else split_lists(path, values["splits"]),
        ignore=None if values.get("ignore") is None else label_id(path, values["ignore"], IGNORE),
    )


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON file that holds a mapping; nothing in it is executed.

    Raises:
        InputError: It is missing or no such file.
    """
    values = read_plain(path)
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a mapping of keys to values")
    return {str(key): value for key, value in values.items()}


def read_plain(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Read a YAML or JSON file (JSON is YAML); nothing in it is executed.

    Raises:
        InputError: It is missing or damaged.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as YAML or JSON ({reason[:200]})") from error


def split_lists(path: Path, values: object) -> dict[str, list[str]]:
    """Check lists of ids by split.

    Raises:
        InputError: A split is unknown, or what it holds is no list of ids.
    """
    if not isinstance(values, dict) or not values or set(values) - {"train", "val", "test"}:
        raise InputError(f"{path}: splits: expected lists of ids under train, val and test")
    for split, ids in values.items():
        if not isinstance(ids, list) or not all(isinstance(name, str | int) for name in ids):
            raise InputError(f"{path}: splits: {split}: expected a list of case ids or patients")
    return {str(split): [str(name) for name in ids] for split, ids in values.items()}


def label_id(path: Path, value: object, highest: int = MAX_LABEL) -> int:
    """Check a label id.

    Raises:
        InputError: It is no whole number in 1..`highest`.
    """
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= highest:
        raise InputError(f"{path}: labels: '{value}' is no label id; ids are whole numbers from 1 to {highest}")
    return number


def _labels(path: Path, values: object, mask_names: list[str]) -> dict[int, str]:
    if values is None and mask_names:
        return dict(enumerate(mask_names, start=1))
    if not isinstance(values, dict) or not values:
        raise InputError(f"{path}: 'labels' is missing; write label ids and names, for example labels: {{1: liver}}")
    labels = {label_id(path, key): str(name) for key, name in values.items() if str(key) != "0"}
    if not labels or len(set(labels.values())) < len(labels):
        raise InputError(f"{path}: labels: expected at least one structure, each with a name of its own")
    if mask_names and set(mask_names) != set(labels.values()):
        raise InputError(
            f"{path}: masks are given for {', '.join(mask_names)}, but labels name {', '.join(labels.values())}"
        )
    return labels


def _parts(path: Path, values: object, labels: Mapping[int, str]) -> dict[str, tuple[int, ...]]:
    if values is None:
        return {}
    if not isinstance(values, dict) or not values:
        raise InputError(f"{path}: parts: expected structures with lists of label ids")
    parts = {}
    for name, ids in values.items():
        if not isinstance(ids, list) or not ids or not all(part in labels for part in ids):
            raise InputError(f"{path}: parts: {name}: expected a list of ids out of {', '.join(map(str, labels))}")
        parts[str(name)] = tuple(ids)
    return parts


def _window(path: Path, value: object) -> Window | None:
    if value is None:
        return None
    if isinstance(value, str) and value in WINDOWS_HU:
        return FixedWindow(*WINDOWS_HU[value])
    if isinstance(value, dict):
        try:
            if set(value) == {"low", "high"}:
                return FixedWindow(float(value["low"]), float(value["high"]))
            if set(value) == {"lower", "upper"}:
                return PercentileWindow(float(value["lower"]), float(value["upper"]))
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: window: {error}") from error
    raise InputError(
        f"{path}: window: expected one of {', '.join(WINDOWS_HU)}, or {{low: -160, high: 240}}, or percentiles "
        "{lower: 0.5, upper: 99.5}"
    )


def _text(path: Path, values: Mapping[str, Any], key: str) -> str | None:
    value = values.get(key)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{path}: {key}: expected a text, found {value!r}")
    return value


def _pattern(path: Path, key: str, value: object) -> str:
    if not isinstance(value, str) or "{id}" not in value:
        raise InputError(f"{path}: {key}: expected a path with {{id}} in it, found {value!r}")
    if value.startswith("/") or ".." in Path(value).parts:
        raise InputError(f"{path}: {key}: '{value}' leads out of the dataset's folder; give a path below it")
    return value
