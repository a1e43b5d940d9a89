"""The `export` command."""

import argparse
import os
import shutil
from pathlib import Path
from typing import Any

from medzeroseg.errors import OutputError

_EPILOG = """\
examples:
  medzeroseg export runs/phantom_cehnc/seed_0/checkpoints/best.ckpt --output exported/phantom
  medzeroseg export best.ckpt --output exported/mine --onnx --results runs/samples_acdc_zeroshot
  medzeroseg export best.ckpt --output exported/mine --push-to OWNER/NAME

The folder holds safetensors, JSON and a model card. It is read by medzeroseg.from_pretrained(DIR), by
medzeroseg segment --checkpoint DIR, and by open_clip (local-dir:DIR), which the command tries and reports. Nothing is
sent anywhere without --push-to. The card holds no paths and nothing of patients.
"""


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `medzeroseg export` to a parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Write a trained model as a folder that others can load. Not a medical device."
    parser.epilog = _EPILOG
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="of a contrastive training")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an exported model in it")
    parser.add_argument("--config", type=Path, help="config.yaml of the run, if the checkpoint lacks its own")
    parser.add_argument("--onnx", action="store_true", help="also ONNX graphs, checked against torch (extra: onnx)")
    card = parser.add_argument_group("model card")
    card.add_argument("--name", help="title of the card (default: the run's experiment)")
    card.add_argument("--license", metavar="SPDX", help="of the weights (default: mit for phantoms, else other)")
    card.add_argument(
        "--results",
        type=Path,
        action="append",
        default=[],
        metavar="RUN",
        help="folder of an experiment tested with this model, such as runs/samples_acdc_zeroshot; may be repeated",
    )
    hub = parser.add_argument_group("hub")
    hub.add_argument("--push-to", metavar="REPO_ID", help="upload to this repository of the Hugging Face hub")
    hub.add_argument("--public", action="store_true", help="a new repository can be read by all (default: private)")


def run_export(args: argparse.Namespace) -> int:
    """Export a model.

    Args:
        args: What `add_export_arguments` parses.

    Returns:
        Exit code 0.

    Raises:
        MedZeroSegError: The checkpoint, the output folder, a graph or the hub is not usable.
        InputError: Files of a model are missing.
    """
    output: Path = args.output
    _require_free(output, args.overwrite)
    # model and torch take seconds to import
    from rich.console import Console

    from medzeroseg.export.card import Facts, read_record, write_card
    from medzeroseg.export.folder import write_config, write_model
    from medzeroseg.export.graphs import require_packages, write_graphs
    from medzeroseg.export.hub import push, require_repo_id
    from medzeroseg.export.open_clip_check import compare_with_open_clip
    from medzeroseg.files import require_writable, write_atomically
    from medzeroseg.inference.loading import load_model
    from medzeroseg.models.sources import OWN_SECTION
    from medzeroseg.tables import build_tables

    if args.onnx:
        require_packages()
    if args.push_to is not None:
        require_repo_id(args.push_to)
    console = Console(highlight=False)
    loaded = load_model(args.checkpoint, args.config)
    run = args.checkpoint.parent.parent
    facts = Facts(
        name=args.name or _experiment(args.checkpoint),
        architecture=loaded.model.signature,
        origin=loaded.origin,
        config=_config(args.checkpoint),
        record=read_record(run),
        is_tested_checkpoint=args.checkpoint.name == "best.ckpt",
        results=[table for folder in args.results for table in build_tables(folder)],
        licence=args.license,
    )
    require_writable(output.parent)
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        config = write_model(loaded.model, loaded.arguments, temporary)
        write_config(config, temporary)
        own = config[OWN_SECTION]
        own["origin"] = loaded.origin
        own["open_clip"] = compare_with_open_clip(loaded.model, temporary, config["model_cfg"])
        onnx = write_graphs(loaded.model, temporary / "onnx") if args.onnx else None
        if onnx is not None:
            own["onnx"] = onnx
        write_config(config, temporary)
        write_atomically(temporary / "README.md", write_card(facts, own, onnx))
        if output.is_dir():
            shutil.rmtree(output)
        temporary.rename(output)
    except OSError as error:
        raise OutputError(f"Cannot write {output}: {error.strerror}. Choose another output folder.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _report(console, output, own)
    if args.push_to is not None:
        console.print(f"pushed: {push(output, args.push_to, public=args.public)}")
    return 0


def _require_free(output: Path, overwrite: bool) -> None:
    """Refuse to replace anything but an exported model, and that only when asked to."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not output.is_dir():
        raise OutputError(f"output: {output} is a file; name a folder")
    if not overwrite:
        raise OutputError(f"output: {output} is not empty; choose another folder, or give --overwrite")
    from medzeroseg.export.folder import is_exported

    if not is_exported(output):
        raise OutputError(f"output: {output} holds files that are no exported model; choose another folder")


def _config(checkpoint: Path) -> dict[str, Any]:
    if checkpoint.is_dir():  # an exported model again: its card has what its run knew
        return {}
    from medzeroseg.checkpoints import read_checkpoint

    return read_checkpoint(checkpoint).get("config") or {}


def _experiment(checkpoint: Path) -> str:
    """`phantom_cehnc` of `runs/phantom_cehnc/seed_0/checkpoints/best.ckpt`, else the file's name."""
    parents = checkpoint.resolve().parents
    if checkpoint.parent.name == "checkpoints" and len(parents) > 2 and parents[1].name.startswith("seed_"):
        return parents[2].name
    return checkpoint.stem


def _report(console: Any, output: Path, own: dict[str, Any]) -> None:  # noqa: ANN401 - rich is imported late
    console.print(f"{output}: {own['architecture']}")
    check = own["open_clip"]
    if not check["loads"]:
        console.print(f"open_clip cannot load it: {check['reason']}")
    else:
        first = f"after `import {check['needs_import']}` " if check["needs_import"] else ""
        same = "with equal embeddings" if check["equal"] else f"but {check['reason']}"
        differences = f"image {check['image']:.1e}, text {check['text']:.1e}"
        console.print(f"open_clip loads it {first}{same} (largest difference: {differences})")
    for graph in own.get("onnx", {}).get("graphs", {}).values():
        difference = f"{graph['max_abs_difference']:.1e}"
        console.print(f"{graph['file']}: largest difference between onnxruntime and torch {difference}")
