"""From the bytes of an upload and a few words to masks, pictures and files; no path of the client's is ever used."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from medzeroseg.colours import COLOURS
from medzeroseg.errors import ConfigurationError
from medzeroseg.imaging import InputError
from medzeroseg.imaging.sniffing import looks_like_dicom
from medzeroseg.inference.drawing import colour_of, draw_panel, draw_slice, measured
from medzeroseg.inference.inputs import RESULT_NAME, FoundInput
from medzeroseg.inference.request import clean_texts
from medzeroseg.inference.results import LabelResult, SegmentationResult
from medzeroseg.inference.running import Run, Saving
from medzeroseg.inference.segmenting import Segmenter
from medzeroseg.prompts import ANY_MODALITY

MOST_WORDS = 12
LONGEST_WORDS = 120
_HEAT = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], np.float32)
"""Five colours of matplotlib's inferno, from 0 to 1."""


@dataclass(frozen=True)
class Row:
    """A structure in the table.

    Attributes:
        label: Its result.
        colour: Of its masks, RGB 0..255.
        size: In the best unit that is known, or "".
        score: What the label's score is, two decimals.
        note: Why it was not found, or "".
    """

    label: LabelResult
    colour: tuple[int, int, int]
    size: str
    score: str
    note: str


@dataclass(frozen=True)
class Answer:
    """What a page shows.

    Attributes:
        result: What was found.
        slice_number: The slice that is shown, from 0.
        files: Downloads, in a folder of their own.
    """

    result: SegmentationResult
    slice_number: int
    files: tuple[Path, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """One a structure."""
        return tuple(
            Row(
                label,
                colour_of(label),
                measured(label) if label.found else "",
                f"{label.score:.2f}",
                label.why_not,
            )
            for label in self.result.labels
        )

    def overlay(self, shown: Sequence[int] | None = None) -> Image.Image:
        """The slice with the masks of some labels.

        Args:
            shown: Their ids; None for all.
        """
        ids = [label.label for label in self.result.labels] if shown is None else list(shown)
        kept = np.where(np.isin(self.result.view_labels, ids), self.result.view_labels, 0)
        return draw_panel(replace(self.result, view_labels=kept.astype(np.uint8)), self.slice_number)

    def saliency(self, label: int) -> Image.Image:
        """The slice under the saliency of a label, from dark (0) to bright (1).

        Args:
            label: Its id, from 1.
        """
        base = draw_slice(self.result, self.slice_number)
        heat = Image.fromarray(self.result.view_saliency(label)[self.slice_number]).resize(base.size)
        value = np.asarray(heat, np.float32).clip(0, 1)[..., None]
        place = value * (len(_HEAT) - 1)
        low = np.minimum(place.astype(int), len(_HEAT) - 2)[..., 0]
        colour = _HEAT[low] + (place - low[..., None]) * (_HEAT[low + 1] - _HEAT[low])
        mixed = 0.4 * np.asarray(base, np.float32) + 0.6 * colour
        return Image.fromarray(mixed.round().clip(0, 255).astype(np.uint8))


class Service:
    """Segments uploads with a model that is loaded once.

    Args:
        run: From `medzeroseg.inference.api.prepare`; its request is replaced by the client's words.
        folder: Private; everything that is written lies in it.
    """

    def __init__(self, run: Run, folder: Path) -> None:
        self.run, self.folder = run, folder

    @property
    def modalities(self) -> list[str]:
        """What the prompts have templates for, without `any`."""
        return [name for name in self.run.segmenter.library.templates if name != ANY_MODALITY]

    def segment(self, image: bytes, words: str, modality: str | None) -> Answer:
        """Find what the words name.

        Args:
            image: A PNG, JPEG or DICOM file.
            words: One structure a line.
            modality: One of `modalities`; None: by the DICOM header, else any.

        Raises:
            InputError: The image cannot be read.
            MedZeroSegError: The words do not serve.
        """
        texts = _texts(words)
        suffix = _suffix(image)
        loaded, old = self.run, self.run.segmenter
        request = replace(old.request, text=texts, modality=modality)
        segmenter = Segmenter(
            old.model, loaded.method.method, request, old.library, loaded.method.compare_with, old.device
        )
        work = Path(tempfile.mkdtemp(prefix="answer-", dir=self.folder))
        path = work / f"image{suffix}"
        try:
            path.write_bytes(image)
            run = replace(loaded, segmenter=segmenter, saving=Saving(work / "found"))
            outcome = next(run.outcomes([FoundInput(path, "image")]))
            if outcome.fault is not None:
                raise _without_path(outcome.fault, path)
            assert outcome.result is not None  # nothing was done before in a new folder
            return self._answer(outcome.result, work)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        finally:
            path.unlink(missing_ok=True)

    def _answer(self, result: SegmentationResult, work: Path) -> Answer:
        best = next((label.largest_slice for label in result.labels if label.largest_slice is not None), None)
        number = len(result.view_labels) // 2 if best is None else best
        assert result.folder is not None
        downloads = work / "files"
        downloads.mkdir()
        mask = Image.fromarray(np.ascontiguousarray(result.view_labels[number]))
        mask.putpalette([0, 0, 0, *(value for n in range(255) for value in COLOURS[n % len(COLOURS)])])
        mask.save(downloads / "mask.png")
        draw_panel(result, number).save(downloads / "overlay.png")
        for name, kept in (("labels.dcm", "segmentation.dcm"), (RESULT_NAME, RESULT_NAME)):
            if (result.folder / name).is_file():
                shutil.copy(result.folder / name, downloads / kept)
        shutil.rmtree(result.folder.parent)
        return Answer(result, number, tuple(sorted(downloads.iterdir())))


def _texts(words: str) -> tuple[str, ...]:
    lines = [line for line in words.splitlines() if line.strip()]
    if not lines:
        raise ConfigurationError("Say what to look for, one structure a line, for example: left ventricle")
    if len(lines) > MOST_WORDS:
        raise ConfigurationError(f"At most {MOST_WORDS} structures at a time; these are {len(lines)}")
    if max(map(len, lines)) > LONGEST_WORDS:
        raise ConfigurationError(f"A line may have {LONGEST_WORDS} characters at most")
    return clean_texts(lines)


def _suffix(image: bytes) -> str:
    """By what the bytes are, whatever the client called them."""
    if image.startswith(b"\x89PNG\r\n\x1a\n"):
        return ".png"
    if image.startswith(b"\xff\xd8\xff"):
        return ".jpg"
    if looks_like_dicom(image[:132]):
        return ".dcm"
    raise InputError("This is no PNG, JPEG or DICOM file")


def _without_path(fault: Exception, path: Path) -> Exception:
    """The same message without the name of the server's file."""
    text = str(fault).replace(str(path), "the image").replace(path.name, "the image")
    return type(fault)(text)
