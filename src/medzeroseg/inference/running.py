"""From paths to results: one image after the other, none stopped by another's fault."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medzeroseg.errors import MedZeroSegError, OutputError
from medzeroseg.files import require_writable
from medzeroseg.imaging import InputError, read_image
from medzeroseg.inference.inputs import FoundInput
from medzeroseg.inference.loading import LoadedMethod, LoadedModel
from medzeroseg.inference.outputs import ResultFolder, digest_of, settings_digest, versions
from medzeroseg.inference.results import SegmentationResult
from medzeroseg.inference.segmenting import Progress, Segmenter


@dataclass(frozen=True)
class Saving:
    """Where results go.

    Attributes:
        folder: Each input gets a folder in it.
        overwrite: Replace results that were made otherwise.
        saliency: Whether to write the saliency maps.
        skip_done: Leave inputs alone whose folder holds just this result already.
    """

    folder: Path
    overwrite: bool = False
    saliency: bool = True
    skip_done: bool = True


@dataclass(frozen=True)
class Outcome:
    """What became of an input: a result, a fault, or neither where it was done before.

    Attributes:
        found: The input.
        result: What was found in it.
        fault: Why it could not be segmented.
    """

    found: FoundInput
    result: SegmentationResult | None = None
    fault: MedZeroSegError | InputError | None = None


@dataclass(frozen=True)
class Run:
    """A segmenter, and what its records say about it.

    Attributes:
        segmenter: For all inputs.
        model: Where its model comes from.
        method: Its method, with the content of its file.
        saving: Where results go; None for nowhere.
    """

    segmenter: Segmenter
    model: LoadedModel
    method: LoadedMethod
    saving: Saving | None = None

    def outcomes(self, inputs: Sequence[FoundInput], progress: Progress | None = None) -> Iterator[Outcome]:
        """Segment the inputs in turn.

        Args:
            inputs: From `find_inputs`.
            progress: Told of the slices of the image at hand.

        Yields:
            One outcome an input, as soon as it is known.

        Raises:
            OutputError: The output folder cannot be written to at all.
        """
        if self.saving is not None:
            _require_writable(self.saving.folder)
        for found in inputs:
            try:
                yield Outcome(found, self._one(found, progress))
            except (MedZeroSegError, InputError) as fault:
                yield Outcome(found, fault=fault)

    def _one(self, found: FoundInput, progress: Progress | None) -> SegmentationResult | None:
        if self.saving is None:
            return self._segment(found, progress)
        input_digest = digest_of(found.path)
        origin = self._origin()
        folder = ResultFolder(
            self.saving.folder / found.name,
            settings_digest(input_digest, found.path.name, origin, self.saving.saliency),
        )
        folder.require_free(self.saving.overwrite)
        if self.saving.skip_done and not self.saving.overwrite and folder.is_done():
            return None
        result = self._segment(found, progress)
        shape = result.label_map.shape
        record = {
            "input": {"name": found.path.name, "sha256": input_digest, "shape": list(shape)},
            **origin,
            "device": str(self.segmenter.device),
        }
        identity = self.segmenter.request.identity
        return folder.write(result, record, identity=identity, saliency=self.saving.saliency)

    def _segment(self, found: FoundInput, progress: Progress | None) -> SegmentationResult:
        start = time.perf_counter()
        volume = read_image(found.path, **asdict(self.segmenter.request.reading))
        return self.segmenter(volume, found.path, progress, time.perf_counter() - start)

    def _origin(self) -> dict[str, Any]:
        """What a result depends on besides its input."""
        request = asdict(self.segmenter.request)
        del request["batch_size"]  # changes nothing
        library = self.segmenter.library
        return {
            "request": request,
            "model": self.model.origin,
            "method": {"title": self.method.method.title, **self.method.settings},
            "prompts_sha256": settings_digest(
                *(
                    {key: list(value) for key, value in words.items()}
                    for words in (library.templates, library.structures, library.neighbours)
                ),
                sorted(library.projections),
            ),
            "versions": versions(),
        }


def _require_writable(folder: Path) -> None:
    try:
        require_writable(folder)
    except OutputError as error:
        reason = getattr(error.__cause__, "strerror", None) or "no permission"
        raise OutputError(f"output: {folder} cannot be written to ({reason}); choose another folder") from error
