"""Writes a result: label map, overlay, saliency and record appear together or not at all."""

import hashlib
import io
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from medzeroseg.errors import OutputError
from medzeroseg.files import write_atomically
from medzeroseg.imaging import InputError, write_map, write_mask
from medzeroseg.imaging.reading import PictureSource
from medzeroseg.inference.drawing import draw_overlay
from medzeroseg.inference.inputs import RESULT_NAME
from medzeroseg.inference.results import SegmentationResult, plain

RECORD_VERSION = 1
_PACKAGES = ("medzeroseg", "torch", "open_clip_torch", "timm", "transformers", "numpy")
_READABLE_CHARACTERS = 40


class ResultFolder:
    """The folder of one input's results.

    Args:
        folder: It need not exist.
        made_from: Digest of everything that the result depends on: input, model, method, options.
    """

    def __init__(self, folder: Path, made_from: str) -> None:
        self.folder, self.made_from = folder, made_from

    def is_done(self) -> bool:
        """Whether the folder holds just this result already."""
        return self._record().get("made_from") == self.made_from

    def require_free(self, overwrite: bool) -> None:
        """Refuse to replace what was made otherwise, or is not ours.

        Raises:
            OutputError: The folder holds other files, and they are not to be overwritten.
        """
        if overwrite or self.is_done() or not self._entries():
            return
        what = "the result of other settings or of another image" if self._record() else "files that are no result"
        raise OutputError(f"{self.folder} holds {what}; choose another output folder, or give --overwrite")

    def write(
        self, result: SegmentationResult, record: Mapping[str, Any], *, identity: str = "remove", saliency: bool = True
    ) -> SegmentationResult:
        """Write everything under a temporary name beside the folder, then put it in place.

        Args:
            result: What was found.
            record: Plain values that go into the record beside the result's own.
            identity: See `medzeroseg.imaging.write_mask`.
            saliency: Whether to write the saliency maps.

        Returns:
            The result, knowing its files.

        Raises:
            OutputError: The folder cannot be written to.
        """
        temporary = self.folder.with_name(f".{self.folder.name}.{os.getpid()}.tmp")
        try:
            temporary.mkdir(parents=True, exist_ok=True)
            start = time.perf_counter()
            files, notes = _write_images(temporary, result, identity, saliency)
            seconds = {**result.seconds, "write": time.perf_counter() - start}
            result = replace(
                result, folder=self.folder, files=tuple(files), notes=(*result.notes, *notes), seconds=seconds
            )
            content = {**_described(result), **record, "made_from": self.made_from}
            text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
            write_atomically(temporary / RESULT_NAME, text + "\n")
            self._put_in_place(temporary)
        except OSError as error:
            raise OutputError(f"Cannot write {self.folder}: {error.strerror}. Choose another output folder.") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return result

    def _put_in_place(self, temporary: Path) -> None:
        if not self._entries():
            if self.folder.is_dir():
                self.folder.rmdir()
            temporary.rename(self.folder)
            return
        # the record goes first and comes last: a folder with a record is whole
        old = [name for name in self._record().get("files", []) if Path(name).name == name]
        (self.folder / RESULT_NAME).unlink(missing_ok=True)
        for name in old:
            (self.folder / name).unlink(missing_ok=True)
        for path in sorted(temporary.iterdir(), key=lambda path: path.name == RESULT_NAME):
            path.replace(self.folder / path.name)

    def _entries(self) -> list[Path]:
        try:
            return list(self.folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise OutputError(f"{self.folder}: results cannot be written there ({error.strerror})") from error

    def _record(self) -> dict[str, Any]:
        try:
            content = json.loads((self.folder / RESULT_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none, or not ours
            return {}
        return content if isinstance(content, dict) else {}


def digest_of(path: Path) -> str:
    """SHA-256 of the contents of a file, or of a folder's files in the order of their names.

    Raises:
        InputError: One cannot be read.
    """
    digest = hashlib.sha256()
    try:
        files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
        for file in files:
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    except OSError as error:
        raise InputError(f"{error.filename or path}: the file cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def settings_digest(*parts: object) -> str:
    """SHA-256 of plain values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def versions() -> dict[str, str]:
    """What a result depends on besides its settings."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def _write_images(
    folder: Path, result: SegmentationResult, identity: str, saliency: bool
) -> tuple[list[str], list[str]]:
    """Write label maps, overlay and saliency; their names, and notes on what could not be written."""
    view = result.view.volume
    names = {label.label: label.text for label in result.labels}
    files, notes = [_label_map_name(result)], []
    write_mask(folder / files[0], result.view_labels, view, label_names=names)
    if _is_dicom(result):
        try:
            write_mask(folder / "labels.dcm", result.view_labels, view, label_names=names, identity=identity)
            files.append("labels.dcm")
        except OutputError as error:
            reason = str(error).partition(": ")[2]
            notes.append(f"no DICOM segmentation was written: {reason}")
    buffer = io.BytesIO()
    draw_overlay(result).save(buffer, "PNG")
    write_atomically(folder / "overlay.png", buffer.getvalue())
    files.append("overlay.png")
    if saliency:
        ending = ".png" if files[0].endswith(".png") else ".nii.gz"
        for label in result.labels:
            name = f"saliency_{label.label}_{_readable(label.text)}{ending}"
            write_map(folder / name, result.view_saliency(label.label), view)
            files.append(name)
    return files, notes


def _label_map_name(result: SegmentationResult) -> str:
    """A picture's labels are a picture; NRRD and MetaImage keep their kind; everything else becomes NIfTI."""
    volume = result.view.volume
    flat = volume.geometry is None and len(volume.array) == 1
    if isinstance(volume.source, PictureSource) or flat:
        return "labels.png"
    endings = {".nrrd": ".nrrd", ".mha": ".mha", ".mhd": ".mha"}
    return f"labels{endings.get(result.path.suffix.lower(), '.nii.gz')}"


def _is_dicom(result: SegmentationResult) -> bool:
    from medzeroseg.imaging.dicom_series import DicomSource

    return isinstance(result.view.volume.source, DicomSource)


def _readable(text: str) -> str:
    return re.sub(r"\W+", "-", text).strip("-")[:_READABLE_CHARACTERS] or "label"


def _described(result: SegmentationResult) -> dict[str, Any]:
    volume = result.view.volume
    spacing = None if volume.spacing_mm is None else [None if side != side else side for side in volume.spacing_mm]
    total = sum(result.seconds.values())
    return {
        "version": RECORD_VERSION,
        "labels": [plain(label) for label in result.labels],
        "overlap_voxels": result.overlap_voxels,
        "notes": list(result.notes),
        "view": {
            "modality": result.view.modality,
            "plane": result.view.plane,
            "window": list(result.view.window),
            "shape": list(volume.shape),
            "spacing_mm": spacing,
        },
        "layer": result.layer,
        "seconds": {**{stage: round(value, 4) for stage, value in result.seconds.items()}, "total": round(total, 4)},
        "threads": torch.get_num_threads(),
        "files": list(result.files),
    }
