"""`medzeroseg.segment`: the command's powers, from Python."""

from collections.abc import Sequence
from pathlib import Path

from medzeroseg.inference.inputs import find_inputs
from medzeroseg.inference.loading import choose_device, default_method, load_method, load_model
from medzeroseg.inference.request import ReadingOptions, SegmentationRequest
from medzeroseg.inference.results import SegmentationResult
from medzeroseg.inference.running import Run, Saving
from medzeroseg.inference.segmenting import Segmenter
from medzeroseg.prompts import DEFAULT_PROMPTS, PromptLibrary

PathLike = Path | str


def segment(
    inputs: PathLike | Sequence[PathLike],
    text: str | Sequence[str],
    *,
    checkpoint: PathLike | None = None,
    config: PathLike | None = None,
    model: str | None = None,
    pretrained: str | None = None,
    method: PathLike | None = None,
    prompts: PathLike = DEFAULT_PROMPTS,
    output: PathLike | None = None,
    overwrite: bool = False,
    saliency: bool = True,
    modality: str | None = None,
    window: str | None = None,
    plane: str = "auto",
    min_score: float | None = None,
    batch_size: int = 16,
    longest_px: int = 1024,
    identity: str = "remove",
    volume_index: int | None = None,
    series: int | None = None,
    uneven_steps: str = "error",
    duplicate_positions: str = "error",
    device: str = "auto",
) -> list[SegmentationResult]:
    """Segment what the texts name, in pictures, scans, DICOM series, or folders of these.

        result = medzeroseg.segment("chest.png", ["lungs"], checkpoint="best.ckpt")[0]
        result.label_map, result.labels[0].found

    All results stay in memory. For many scans use `prepare`, whose `outcomes` come one by one.

    Args:
        inputs: One or several files or folders; see `medzeroseg.inference.inputs.find_inputs`.
        text: What to look for; label 1, 2, ... in this order.
        checkpoint: Of a contrastive training; or give `model`.
        config: The checkpoint's configuration, where it does not hold its own.
        model: The name of a released model, such as `local-dir:/models/BiomedCLIP`.
        pretrained: The released model's weights, where its name does not bring them.
        method: A method's YAML file; None for the packaged one.
        prompts: A file of templates and synonyms.
        output: Folder for the results; None writes nothing.
        overwrite: Replace results in it that were made otherwise.
        saliency: Whether to write the saliency maps, too.
        modality: Key of the prompts' templates; see `medzeroseg.inference.viewing.look_at` for this and `plane`.
        window: See `medzeroseg.inference.viewing.choose_window`.
        plane: "auto", "axial", "coronal", "sagittal", "stored".
        min_score: A label whose score is lower counts as not found.
        batch_size: Slices that pass the model together.
        longest_px: Larger slices are segmented at this size, and their masks enlarged.
        identity: "remove", or "keep" for DICOM segmentations under their source's patient.
        volume_index: See `medzeroseg.imaging.read_image` for this and the next three.
        series: Which series of a DICOM folder, from 1.
        uneven_steps: "error" or "accept".
        duplicate_positions: "error" or "first".
        device: "auto", "cpu", "cuda", "cuda:1", "mps".

    Returns:
        One result an image, in order.

    Raises:
        InputError: An image cannot be read; those before it are written.
        MedZeroSegError: Options, checkpoint, method or output folder are not usable.
    """
    request = SegmentationRequest(
        text=(text,) if isinstance(text, str) else tuple(text),
        modality=modality,
        window=window,
        plane=plane,
        min_score=min_score,
        batch_size=batch_size,
        longest_px=longest_px,
        identity=identity,
        reading=ReadingOptions(volume_index, series, uneven_steps, duplicate_positions),
    )
    paths = [Path(inputs)] if isinstance(inputs, Path | str) else [Path(path) for path in inputs]
    found, _ = find_inputs(paths)
    run = prepare(
        request,
        checkpoint=checkpoint,
        config=config,
        model=model,
        pretrained=pretrained,
        method=method,
        prompts=prompts,
        saving=None if output is None else Saving(Path(output), overwrite, saliency, skip_done=False),
        device=device,
    )
    results = []
    for outcome in run.outcomes(found):
        if outcome.fault is not None:
            raise outcome.fault
        assert outcome.result is not None  # nothing is skipped
        results.append(outcome.result)
    return results


def prepare(
    request: SegmentationRequest,
    *,
    checkpoint: PathLike | None = None,
    config: PathLike | None = None,
    model: str | None = None,
    pretrained: str | None = None,
    method: PathLike | None = None,
    prompts: PathLike = DEFAULT_PROMPTS,
    saving: Saving | None = None,
    device: str = "auto",
) -> Run:
    """Load model, method and prompts, once for all images; arguments as `segment`.

    Raises:
        MedZeroSegError: One of them is not usable.
        InputError: Files of a model, a segmenter or the prompts are missing.
    """
    chosen_device = choose_device(device)
    library = PromptLibrary.load(prompts)
    loaded = load_model(
        None if checkpoint is None else Path(checkpoint), None if config is None else Path(config), model, pretrained
    )
    loaded_method = load_method(default_method(loaded.model) if method is None else Path(method))
    segmenter = Segmenter(
        loaded.model, loaded_method.method, request, library, loaded_method.compare_with, chosen_device
    )
    return Run(segmenter, loaded, loaded_method, saving)
