"""Saliency against one forward pass of the image tower and against the published forms.

    make bench BENCH=segment [ARGS='--quick --device cuda']

ViT-B/16 at 224 pixels with random weights: the time does not depend on their values. Every row's contenders take turns.
Targets hold for one prompt an image; the rows with several prompts show what sharing the image pass is worth, since the
published forms start anew for each.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import torch
from pytorch_grad_cam import GradCAM as PackageGradCAM
from torch import Tensor
from torch.nn import functional as F

from benchmarks import saliency_peers as peers
from benchmarks.timing import interleaved_medians, machine
from medzeroseg.models import ImageTextModel, SaliencyLayer
from medzeroseg.saliency import M2IB, GradCAM, GScoreCAM, PatchTextSimilarity, SaliencyMethod
from medzeroseg.saliency.noise import keyed_noise

MODEL = "ViT-B-16"


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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds of the rows against one forward")
    parser.add_argument(
        "--loop-rounds", type=int, default=1, help="timed rounds against the authors' loops: minutes each"
    )
    parser.add_argument("--prompts", type=int, default=3, help="prompts in the rows that have several")
    parser.add_argument("--quick", action="store_true", help="one round, 32 channels, 3 steps: does it still run?")
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
    for images, prompts in ((1, 1), (4, 1), (1, arguments.prompts)):
        for row in bench.against_forward(images, prompts):
            print(row.markdown(), flush=True)
    for prompts in (1, arguments.prompts):
        print(bench.g_score_cam(1, prompts).markdown(), flush=True)
    print(bench.m2ib(1, 1, frozen=False).markdown(), flush=True)
    print(bench.m2ib(1, 1, frozen=True).markdown(), flush=True)


if __name__ == "__main__":
    main()
