"""Saliency against one forward pass and against the published forms; the whole `segment` against its networks alone.

    make bench BENCH=segment [ARGS='--quick --device cuda']

ViT-B/16 at 224 pixels with random weights: the time does not depend on their values. Every row's contenders take turns.
Targets of saliency hold for one prompt an image; rows with several prompts show what sharing the image pass is worth,
since the published forms start anew for each. The whole `segment` runs with a SAM of ViT-B size and random weights.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from pytorch_grad_cam import GradCAM as PackageGradCAM
from torch import Tensor
from torch.nn import functional as F
from transformers import SamConfig, SamImageProcessor, SamModel, SamVisionConfig

from benchmarks import saliency_peers as peers
from benchmarks.timing import interleaved_medians, machine
from medzeroseg.imaging import Volume
from medzeroseg.imaging.reading import PictureSource
from medzeroseg.inference.outputs import ResultFolder
from medzeroseg.inference.request import SegmentationRequest
from medzeroseg.inference.segmenting import Segmenter
from medzeroseg.models import ImageTextModel, PatchTower, SaliencyLayer
from medzeroseg.saliency import M2IB, GradCAM, GScoreCAM, PatchTextEvidence, PatchTextSimilarity, SaliencyMethod
from medzeroseg.saliency.noise import keyed_noise
from medzeroseg.segmenters import SamSegmenter, SegmentedPrompts, SpatialPrompts
from medzeroseg.segmenters.sam import SamImage
from medzeroseg.zero_shot import ZeroShotMethod

MODEL = "ViT-B-16"
ORGANS = (
    "liver",
    "spleen",
    "left kidney",
    "right kidney",
    "aorta",
    "pancreas",
    "stomach",
    "gallbladder",
)  # Synapse's 8


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    figure: str
    images: int
    prompts: int
    found: float
    target: float | None
    smaller_is_better: bool
    detail: str

    def markdown(self) -> str:
        """As a table row."""
        target, reached = "", ""
        if self.target is not None:
            target = f"{'<=' if self.smaller_is_better else '>='} {self.target:.2f}"
            good = self.found <= self.target if self.smaller_is_better else self.found >= self.target
            reached = "yes" if good else "no"
        cells = (self.figure, self.images, self.prompts, f"{self.found:.2f}", target, reached, self.detail)
        return f"| {' | '.join(map(str, cells))} |"


@dataclass(frozen=True)
class Bench:
    """A model, its device, how often, and how much."""

    model: ImageTextModel
    device: torch.device
    rounds: int
    loop_rounds: int
    quick: bool

    def inputs(self, images: int, prompts: int) -> tuple[Tensor, Tensor, list[str]]:
        """Random images and unit text embeddings, and the images' keys."""
        generator = torch.Generator().manual_seed(0)
        pictures = torch.randn(images, 3, *self.model.image_size_px, generator=generator)
        texts = F.normalize(torch.randn(prompts, self.model.embedding_dim, generator=generator), dim=1)
        return pictures.to(self.device), texts.to(self.device), [f"image {i}" for i in range(images)]

    def against_forward(self, images: int, prompts: int) -> list[Row]:
        """Dense similarity and Grad-CAM against one forward pass."""
        pictures, texts, keys = self.inputs(images, prompts)
        layer = self.layer(GradCAM())

        def forward() -> Tensor:
            with torch.no_grad():
                return self.model.encode_image(pictures)

        contenders: dict[str, Callable[[], object]] = {
            "forward": forward,
            "dense": lambda: PatchTextSimilarity()(self.model, pictures, texts, keys=keys),
            "ours": lambda: GradCAM()(self.model, pictures, texts, keys=keys),
            "package": lambda: peers.package_maps(PackageGradCAM, self.model, layer, pictures, texts),
        }
        seconds = interleaved_medians(contenders, self.rounds, self.device)

        def row(figure: str, name: str, target: float | None) -> Row:
            detail = f"{1e3 * seconds[name]:.0f} ms / {1e3 * seconds['forward']:.0f} ms"
            return Row(figure, images, prompts, seconds[name] / seconds["forward"], target, True, detail)

        one = prompts == 1
        return [
            row("dense similarity / one forward", "dense", 1.1 if one else None),
            row("Grad-CAM / one forward", "ours", 1.3 if one else None),
            row(f"grad-cam {version('grad-cam')}'s Grad-CAM / one forward", "package", None),
        ]

    def evidence(self, images: int, prompts: int) -> Row:
        """Patch-text evidence of the small default model against one forward pass of its patch tower."""
        model = ImageTextModel("small", patch_tower=PatchTower).to(self.device).eval()
        pictures, texts, keys = replace(self, model=model).inputs(images, prompts)

        def forward() -> Tensor:
            with torch.no_grad():
                return model.encode_patches(pictures)

        contenders: dict[str, Callable[[], object]] = {
            "forward": forward,
            "ours": lambda: PatchTextEvidence()(model, pictures, texts, keys=keys),
        }
        seconds = interleaved_medians(contenders, 5 * self.rounds, self.device)  # milliseconds each
        detail = f"{1e3 * seconds['ours']:.1f} ms / {1e3 * seconds['forward']:.1f} ms; {model.image_size_px[0]} pixels"
        figure = "patch-text evidence of the small model / one forward of its patch tower"
        return Row(figure, images, prompts, seconds["ours"] / seconds["forward"], 1.1, True, detail)

    def g_score_cam(self, images: int, prompts: int) -> Row:
        """GScoreCAM against the loop of its authors."""
        channels = 32 if self.quick else 300
        pictures, texts, keys = self.inputs(images, prompts)
        method = GScoreCAM(channels=channels)
        layer = self.layer(method)
        return self._pair(
            f"gScoreCAM, {channels} channels: the authors' loop / ours",
            lambda: method(self.model, pictures, texts, keys=keys).maps,
            lambda: peers.g_score_cam_loop(self.model, layer, pictures, texts, channels),
            (images, prompts, 2.0),
        )

    def m2ib(self, images: int, prompts: int, frozen: bool) -> Row:
        """M2IB against the form of its authors, which differentiates by all weights unless they are frozen."""
        steps = 3 if self.quick else 10
        pictures, texts, keys = self.inputs(images, prompts)
        method = M2IB(steps=steps)
        layer = self.layer(method)

        def noise(image: int, step: int, shape: tuple[int, ...]) -> Tensor:
            return keyed_noise(keys[image], step, shape).to(self.device)

        self.model.requires_grad_(not frozen)
        try:
            return self._pair(
                f"M2IB, {steps} steps: the authors' form{' with frozen weights' if frozen else ''} / ours",
                lambda: method(self.model, pictures, texts, keys=keys).maps,
                lambda: peers.m2ib_loop(self.model, layer, pictures, texts, noise, steps=steps),
                (images, prompts, None if frozen else 3.0),
            )
        finally:
            self.model.requires_grad_(True)

    def whole_segment(self, side_px: int) -> list[Row]:
        """`segment` for 8 labels on one picture, without and with the writing of its files, against its networks."""
        with tempfile.TemporaryDirectory() as folder:
            write_sam(Path(folder) / "sam", layers=1 if self.quick else 12)
            sam = CountingSam(str(Path(folder) / "sam")).to(self.device)
            segmenter = Segmenter(
                self.model,
                ZeroShotMethod(PatchTextSimilarity(), segmenter=sam),
                SegmentationRequest(ORGANS),
                device=self.device,
            )
            grey = np.random.default_rng(0).integers(0, 256, (1, side_px, side_px), dtype=np.uint8)
            volume = Volume(grey, window=(0.0, 255.0), source=PictureSource())
            picture, path = torch.from_numpy(grey[0] / np.float32(255)).to(self.device), Path("picture.png")
            pixels, _, _ = self.inputs(1, 1)
            corner = torch.arange(len(ORGANS), device=self.device)[:, None] * (side_px // 16)
            boxes = torch.cat([corner, corner, corner + side_px // 4, corner + side_px // 3], dim=1)
            results = ResultFolder(Path(folder) / "picture", "benchmark")
            found = segmenter(volume, path)
            decoded = sam.decoded

            def networks() -> None:
                with torch.no_grad():
                    self.model.encode_image(pixels)
                sam.decode(sam.encode(picture), SpatialPrompts(boxes=boxes))

            contenders: dict[str, Callable[[], object]] = {
                "networks": networks,
                "segment": lambda: segmenter(volume, path),
                "files": lambda: results.write(found, {}),
            }
            seconds = interleaved_medians(contenders, min(self.rounds, 5), self.device)
        rows = []
        for name, figure, target in (
            ("segment", "whole segment, 8 labels / (CLIP forward + SAM encoder + 8 decodes in one call)", 1.25),
            ("files", "beside it: writing label map, overlay, 8 saliency maps and record / the same", None),
        ):
            detail = (
                f"{1e3 * seconds[name]:.0f} ms / {1e3 * seconds['networks']:.0f} ms; {side_px} x {side_px} pixels, "
            )
            detail += f"{decoded} masks decoded"
            rows.append(Row(figure, 1, len(ORGANS), seconds[name] / seconds["networks"], target, True, detail))
        return rows

    def layer(self, method: SaliencyMethod) -> SaliencyLayer:
        """The layer that a method uses."""
        return next(x for x in self.model.saliency_layers if x.name == method.layer_used(self.model))

    def _pair(
        self, figure: str, ours: Callable[[], Tensor], theirs: Callable[[], Tensor], row: tuple[int, int, float | None]
    ) -> Row:
        maps: dict[str, Tensor] = {}
        contenders: dict[str, Callable[[], object]] = {
            "ours": lambda: maps.update(ours=ours()),
            "theirs": lambda: maps.update(theirs=theirs()),
        }
        seconds = interleaved_medians(
            contenders, self.loop_rounds, self.device, warm_up=0 if self.loop_rounds == 1 else 1
        )
        scale = maps["theirs"].abs().max()
        difference = float((maps["ours"] - maps["theirs"]).abs().max() / scale)
        detail = (
            f"{seconds['theirs']:.2f} s / {seconds['ours']:.2f} s; maps differ by {difference:.1e} of the largest value"
        )
        return Row(figure, row[0], row[1], seconds["theirs"] / seconds["ours"], row[2], False, detail)


class CountingSam(SamSegmenter):
    """Remembers how many masks it decoded last: an empty one would cost nothing."""

    decoded = 0

    def decode(self, encoded: SamImage, prompts: SpatialPrompts) -> SegmentedPrompts:
        """As SAM does."""
        self.decoded = len(prompts)
        return super().decode(encoded, prompts)


def write_sam(folder: Path, layers: int) -> None:
    """A SAM with random weights in transformers' form; with 12 layers it has ViT-B's size."""
    SamModel(SamConfig(vision_config=SamVisionConfig(num_hidden_layers=layers))).save_pretrained(folder)
    SamImageProcessor().save_pretrained(folder)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds of the rows against one forward")
    parser.add_argument(
        "--loop-rounds", type=int, default=1, help="timed rounds against the authors' loops: minutes each"
    )
    parser.add_argument("--prompts", type=int, default=3, help="prompts in the rows that have several")
    parser.add_argument("--rows", choices=("all", "saliency", "segment"), default="all", help="which rows")
    parser.add_argument(
        "--quick", action="store_true", help="one round, 32 channels, 3 steps, a shallow SAM: does it run?"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.manual_seed(0)
    model = ImageTextModel(MODEL).to(device).eval()
    rounds, loop_rounds = (1, 1) if arguments.quick else (arguments.rounds, arguments.loop_rounds)
    bench = Bench(model, device, rounds, loop_rounds, arguments.quick)
    packages = ", ".join(f"{name} {version(name)}" for name in ("open_clip_torch", "timm", "grad-cam"))
    print(f"{machine(device)}; {packages}; {MODEL} with random weights, {model.image_size_px[0]} pixels, float32\n")
    print("| figure | images | prompts | found | target | reached | medians |\n|---|---|---|---|---|---|---|")
    if arguments.rows != "segment":
        saliency_rows(bench, arguments.prompts)
    if arguments.rows != "saliency":
        for row in bench.whole_segment(512):
            print(row.markdown(), flush=True)


def saliency_rows(bench: Bench, several: int) -> None:
    """Print the rows of the saliency methods."""
    for images, prompts in ((1, 1), (4, 1), (1, several)):
        for row in bench.against_forward(images, prompts):
            print(row.markdown(), flush=True)
    for images in (1, 4):
        print(bench.evidence(images, 1).markdown(), flush=True)
    for prompts in (1, several):
        print(bench.g_score_cam(1, prompts).markdown(), flush=True)
    print(bench.m2ib(1, 1, frozen=False).markdown(), flush=True)
    print(bench.m2ib(1, 1, frozen=True).markdown(), flush=True)


if __name__ == "__main__":
    main()
