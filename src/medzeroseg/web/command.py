"""The `serve` command."""

import argparse
from importlib.util import find_spec
from pathlib import Path

from medzeroseg.errors import ConfigurationError

_EPILOG = """\
examples:
  medzeroseg serve --checkpoint runs/phantom_cehnc/seed_0/checkpoints/best.ckpt
  medzeroseg serve --checkpoint exported/phantom --port 8000

Answers this machine alone unless --host says otherwise. Nothing is sent anywhere and nothing is fetched from outside;
uploads are removed from the disk as soon as they are read, results within 15 minutes and at the end.
"""


def add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `medzeroseg serve` to a parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "A web page on this machine: drop an image, type words, see masks (extra: serve). Not a medical device."
    )
    parser.epilog = _EPILOG
    model = parser.add_argument_group("model and method")
    model.add_argument("--checkpoint", type=Path, help="of a contrastive training, or the folder of an exported model")
    model.add_argument("--config", type=Path, help="config.yaml of the run, if the checkpoint lacks its own")
    model.add_argument("--model", help="a released model instead: hf-hub:OWNER/REPO, local-dir:FOLDER, ViT-B-16 ...")
    model.add_argument("--pretrained", help="its weights, where the name does not bring them: a tag or a file")
    model.add_argument("--method", type=Path, help="YAML file of saliency, post-processing and segmenter")
    model.add_argument("--prompts", type=Path, help="YAML file of templates and synonyms")
    model.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")
    server = parser.add_argument_group("server")
    server.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    server.add_argument("--port", type=int, default=7860, help="default: 7860")
    server.add_argument("--max-upload-mb", type=int, default=64, help="size of the largest upload (default: 64)")


def run_serve(args: argparse.Namespace) -> int:
    """Load the model and serve until interrupted.

    Args:
        args: What `add_serve_arguments` parses.

    Returns:
        Exit code 0.

    Raises:
        MedZeroSegError: gradio is missing, or options, checkpoint or method are not usable.
        InputError: Files of a model are missing.
    """
    if find_spec("gradio") is None:
        raise ConfigurationError("serve needs gradio: pip install 'medzeroseg[serve]' (in a checkout: make setup)")
    if args.max_upload_mb < 1:
        raise ConfigurationError(f"max-upload-mb: at least 1, got {args.max_upload_mb}")
    if not 0 < args.port < 1 << 16:
        raise ConfigurationError(f"port: 1..65535, got {args.port}")
    from medzeroseg.web.server import listen, serve

    taken = listen(args.host, args.port)
    # model, torch and gradio take seconds to import
    from medzeroseg.inference.api import prepare
    from medzeroseg.inference.request import SegmentationRequest
    from medzeroseg.prompts import DEFAULT_PROMPTS

    run = prepare(
        SegmentationRequest(("anything",)),  # each client brings words of its own
        checkpoint=args.checkpoint,
        config=args.config,
        model=args.model,
        pretrained=args.pretrained,
        method=args.method,
        prompts=args.prompts or DEFAULT_PROMPTS,
        device=args.device,
    )
    serve(run, taken, args.max_upload_mb << 20)
    return 0
