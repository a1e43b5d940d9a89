"""nnU-Net's `dataset.json`, of version 1 and 2, as a folder description."""

from pathlib import Path
from typing import Any

from data_modules.cases import IGNORE
from data_modules.folder_description import FolderDescription, label_id, read_mapping
from medzeroseg.imaging import ABDOMEN_WINDOW_HU, FixedWindow, InputError


def read_nnunet(path: Path, channel: int | str | None) -> FolderDescription:
    """Read a `dataset.json` (imagesTr, labelsTr, imagesTs, and labelsTs where it exists).

    Version 1 has `modality` {"0": "CT"} and labels {"0": "background", "1": "liver"}; version 2 `channel_names`,
    `file_ending` and labels {"background": 0, "liver": 1}, where a list of ids is a structure made of several labels
    and "ignore" stands for what is unknown.

    Args:
        path: The file.
        channel: Which channel, by number or name, where there are several.

    Raises:
        InputError: A key is missing or not understood, or a channel must be chosen.
    """
    values = read_mapping(path)
    channels = _channels(path, values)
    number = choose_channel(path, channels, channel)
    labels, parts, ignore = _labels(path, values.get("labels"))
    ending = values.get("file_ending", ".nii.gz")
    if not isinstance(ending, str) or not ending.startswith("."):
        raise InputError(f"{path}: file_ending: expected an ending like .nii.gz, found {ending!r}")
    name = channels[number]
    return FolderDescription(
        labels=labels,
        images=f"imagesTr/{{id}}_{number:04d}{ending}",
        label_maps=f"labelsTr/{{id}}{ending}",
        modality=name,
        window=FixedWindow(*ABDOMEN_WINDOW_HU) if name.upper() == "CT" else None,
        parts=parts,
        ignore=ignore,
        channels=channels,
        test_images=f"imagesTs/{{id}}_{number:04d}{ending}",
        test_label_maps=f"labelsTs/{{id}}{ending}",
    )


def choose_channel(path: Path, channels: tuple[str, ...], channel: int | str | None) -> int:
    """Find the number of a channel.

    Raises:
        InputError: It is not there, or there are several and none is named.
    """
    known = ", ".join(f"{number} ({name})" for number, name in enumerate(channels))
    if channel is None:
        if len(channels) > 1:
            raise InputError(f"{path}: the images have the channels {known}; choose one with channel=")
        return 0
    wanted = int(channel) if isinstance(channel, str) and channel.isdecimal() else channel
    if isinstance(wanted, str):
        if channels.count(wanted) == 1:
            return channels.index(wanted)
    elif 0 <= wanted < len(channels):
        return wanted
    raise InputError(f"{path}: there is no channel '{channel}'; the images have {known}")


def _channels(path: Path, values: dict[str, Any]) -> tuple[str, ...]:
    found = values.get("channel_names", values.get("modality"))
    if not isinstance(found, dict) or set(map(str, found)) != set(map(str, range(len(found)))) or not found:
        raise InputError(f'{path}: expected channel_names (or modality) like {{"0": "CT"}}, found {found!r}')
    by_number = {str(key): str(name) for key, name in found.items()}
    return tuple(by_number[str(number)] for number in range(len(by_number)))


def _labels(path: Path, found: object) -> tuple[dict[int, str], dict[str, tuple[int, ...]], int | None]:
    if not isinstance(found, dict) or not found:
        raise InputError(f'{path}: expected labels like {{"background": 0, "liver": 1}}, found {found!r}')
    if all(str(key).isdecimal() for key in found):  # version 1
        found = {str(name): int(key) for key, name in found.items()}
    ignore = None
    parts: dict[str, tuple[int, ...]] = {}
    for name, value in found.items():
        ids = value if isinstance(value, list) else [value]
        if ids in ([0], ["0"]):
            continue
        if name == "ignore":
            ignore = label_id(path, value, IGNORE)
            continue
        if not ids:
            raise InputError(f"{path}: labels: '{name}' has no ids")
        parts[str(name)] = tuple(label_id(path, part) for part in ids)
    if not parts:
        raise InputError(f"{path}: labels: there is no structure beside the background")
    single = {ids[0]: name for name, ids in parts.items() if len(ids) == 1}
    every = sorted({part for ids in parts.values() for part in ids})
    # A label that only occurs inside structures of several has no name of its own.
    return {part: single.get(part, f"label {part}") for part in every}, parts, ignore
