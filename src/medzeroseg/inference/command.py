"""The `segment` command."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

_EPILOG = """\
examples:
  medzeroseg segment chest.png --text "lungs" --checkpoint best.ckpt --output out
  medzeroseg segment scan.nii.gz --text "left ventricle" --text "myocardium" --modality "cardiac MRI" \\
      --checkpoint best.ckpt --output out
  medzeroseg segment series_folder --text liver --model local-dir:/models/BiomedCLIP --output out

Each input gets a folder in the output folder: labels (PNG for pictures, else NIfTI, NRRD or MetaImage on the input's
own grid; for DICOM a DICOM segmentation as well), overlay.png, one saliency map a label, and result.json. Inputs whose
folder holds just this result are skipped. Nothing found is an answer: an empty mask, said so, exit code 0.

exit code: 0 every input was segmented, 1 some could not be (listed at the end), 2 wrong arguments, or the only input
could not be read
"""


def add_segment_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `medzeroseg segment` to a parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Segment what words name, in pictures, NIfTI, NRRD, MetaImage and DICOM. Not a medical device."
    parser.epilog = _EPILOG
    parser.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="INPUT",
        help="a file, the folder of a DICOM series, or a folder of these",
    )
    what = parser.add_argument_group("what to look for")
    what.add_argument("--text", action="append", default=[], help="name of a structure; again for further labels")
    what.add_argument("--modality", help='templates of the prompts, such as "chest X-ray" (default: by DICOM header)')
    what.add_argument("--prompts", type=Path, help="YAML file of templates and synonyms")
    what.add_argument(
        "--min-score",
        type=float,
        help="a label with a lower score (a cosine or a probability, as the record says) counts as not found",
    )
    model = parser.add_argument_group("model and method")
    model.add_argument(
        "--checkpoint",
        type=Path,
        help="of a contrastive training (runs/*/seed_*/checkpoints/best.ckpt), or the folder of an exported model",
    )
    model.add_argument("--config", type=Path, help="config.yaml of the run, if the checkpoint lacks its own")
    model.add_argument("--model", help="a released model instead: hf-hub:OWNER/REPO, local-dir:FOLDER, ViT-B-16 ...")
    model.add_argument("--pretrained", help="its weights, where the name does not bring them: a tag or a file")
    model.add_argument("--method", type=Path, help="YAML file of saliency, post-processing and segmenter")
    model.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")
    model.add_argument("--batch-size", type=int, default=16, help="slices that pass the model together (default: 16)")
    model.add_argument(
        "--longest-px", type=int, default=1024, help="larger slices are segmented at this size (default: 1024)"
    )
    reading = parser.add_argument_group("how to look at the image")
    reading.add_argument(
        "--window",
        help="LOW,HIGH (as --window=-160,240), percentiles, percentiles:LOW,HIGH, file, or abdomen, lung, bone, ... "
        "(default: 0..255 for 8-bit pictures, abdomen for CT, the file's for radiographs, else percentiles)",
    )
    reading.add_argument(
        "--plane",
        default="auto",
        help="axial, coronal, sagittal, stored, or auto: stored for MR and radiographs, else axial (default)",
    )
    reading.add_argument("--volume-index", type=int, help="which volume of a 4-D file, from 0")
    reading.add_argument("--series", type=int, help="which series of a DICOM folder, from 1")
    reading.add_argument("--uneven-steps", default="error", help="DICOM with missing slices: error (default) or accept")
    reading.add_argument(
        "--duplicate-positions", default="error", help="DICOM slices at one place: error (default) or first"
    )
    output = parser.add_argument_group("results")
    output.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the results")
    output.add_argument("--overwrite", action="store_true", help="replace results that were made otherwise")
    output.add_argument("--no-saliency", action="store_true", help="do not write the saliency maps")
    output.add_argument(
        "--identity",
        default="remove",
        help="of the patient in DICOM segmentations: remove (default), or keep, so that an archive files them",
    )


def run_segment(args: argparse.Namespace) -> int:
    """Segment every input and say what was found.

    Args:
        args: What `add_segment_arguments` parses.

    Returns:
        0, or 1 where an input of several could not be segmented.

    Raises:
        MedZeroSegError: Options, checkpoint, method or output folder are not usable, or the only input failed.
        InputError: An input does not exist, or the only one could not be read.
    """
    from medzeroseg.inference.inputs import find_inputs
    from medzeroseg.inference.request import ReadingOptions, SegmentationRequest

    request = SegmentationRequest(
        text=tuple(args.text),
        modality=args.modality,
        window=args.window,
        plane=args.plane,
        min_score=args.min_score,
        batch_size=args.batch_size,
        longest_px=args.longest_px,
        identity=args.identity,
        reading=ReadingOptions(args.volume_index, args.series, args.uneven_steps, args.duplicate_positions),
    )
    found, others = find_inputs(args.inputs)
    # model and torch take seconds to import: not before what is asked for makes sense
    from medzeroseg.inference.api import prepare
    from medzeroseg.inference.running import Saving
    from medzeroseg.inference.screen import Screen
    from medzeroseg.prompts import DEFAULT_PROMPTS

    run = prepare(
        request,
        checkpoint=args.checkpoint,
        config=args.config,
        model=args.model,
        pretrained=args.pretrained,
        method=args.method,
        prompts=args.prompts or DEFAULT_PROMPTS,
        saving=Saving(args.output, args.overwrite, not args.no_saliency),
        device=args.device,
    )
    faults = []
    with Screen(len(found)) as screen:
        if others:
            screen.say(f"{others} other file(s) in the folder were left out: neither images by their ending nor DICOM")
        for outcome in run.outcomes(found, screen.slices):
            if outcome.fault is not None and len(found) == 1:
                raise outcome.fault
            faults += [outcome] if outcome.fault is not None else []
            screen.show(outcome)
    if faults:
        lines = [f"{len(faults)} of {len(found)} inputs could not be segmented:"]
        lines += [f"  {outcome.found.path.name}: {outcome.fault}" for outcome in faults]
        _complain(lines)
    return 1 if faults else 0


def _complain(lines: Sequence[str]) -> None:
    print("\n".join(lines), file=sys.stderr)  # noqa: T201 - the command's answer
