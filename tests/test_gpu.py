"""What only a GPU can show: the same numbers as on the CPU, mixed precision, compiling, memory. `make test-gpu`."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import medzeroseg
from medzeroseg import losses, saliency
from medzeroseg.checkpoints import read_checkpoint
from medzeroseg.main import main
from medzeroseg.metrics.retrieval import retrieval_ranks
from medzeroseg.models import ImageTextModel
from medzeroseg.postprocessing import DenseCRF, KMeans, LargestComponents, Otsu, PostProcessing
from medzeroseg.segmenters import RandomWalkerSegmenter, SamSegmenter, SpatialPrompts
from medzeroseg.zero_shot import ZeroShotMethod
from tests.helpers.fake_inference import write_checkpoint, write_picture
from tests.helpers.fake_models import write_biomedclip_folder
from tests.helpers.fake_segmenters import write_sam_folder
from tests.losses.cases import CASES, Case
from tests.test_experiments import SMALL_RUN, inputs, overrides

__all__ = ["inputs"]  # the fixture, shared

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch sees no CUDA device here"),
]
UNFUSED = "--model.init_args.optimizer.init_args.fused=false"
ON_GPU = [word for word in SMALL_RUN if "accelerator" not in word] + [
    "--trainer.accelerator=gpu",
    "--trainer.devices=1",
]


@pytest.fixture(autouse=True)
def at_root(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project_root)


def embeddings(pairs: int, width: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = F.normalize(torch.randn(pairs, width, generator=generator), dim=1)
    return images, F.normalize(images + torch.randn(pairs, width, generator=generator) / 4, dim=1)


def value_and_gradients(
    loss: torch.nn.Module, device: str, dtype: torch.dtype, pairs: int, mixed: bool = False
) -> list[Tensor]:
    images, texts = (x.to(device, dtype).requires_grad_() for x in embeddings(pairs))
    scale = torch.tensor(14.3, device=device, dtype=dtype, requires_grad=True)
    with torch.autocast(device, torch.bfloat16, enabled=mixed):
        value = loss.to(device)(images, texts, scale)
    value.backward()
    gradients = [x.grad for x in (images, texts, scale) if x.grad is not None]
    return [x.detach().cpu().double() for x in (value, *gradients)]


@pytest.mark.parametrize("tile_size", [None, 64], ids=["dense", "tiled"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_losses_and_gradients_are_those_of_the_cpu(case: Case, tile_size: int | None) -> None:
    expected = value_and_gradients(case.make(tile_size=tile_size), "cpu", torch.float64, 300)
    found = value_and_gradients(case.make(tile_size=tile_size), "cuda", torch.float32, 300)
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() <= 2e-5 * other.norm()


def test_a_loss_under_autocast_computes_in_float32() -> None:
    expected = value_and_gradients(losses.CEHNCLoss(), "cuda", torch.float32, 64)
    found = value_and_gradients(losses.CEHNCLoss(), "cuda", torch.float32, 64, mixed=True)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def train(inputs: Path, runs: Path, *extra: str, experiment: str = "phantom_cehnc", resume: bool = False) -> int:
    words = [*ON_GPU, *overrides(experiment, inputs), f"--runs_dir={runs}", *extra]
    return main(["train", experiment, *(["--resume"] if resume else []), "--", *words])


def last(runs: Path, experiment: str = "phantom_cehnc") -> dict[str, Tensor]:
    found: dict[str, Tensor] = read_checkpoint(runs / experiment / "seed_0" / "checkpoints" / "last.ckpt")["state_dict"]
    return found


@pytest.mark.parametrize(
    ("experiment", "switches"),
    [
        ("phantom_cehnc", []),
        ("phantom_cehnc", ["--trainer.precision=bf16-mixed"]),  # with a fused optimizer, and clipping
        ("roco_cehnc", ["--trainer.precision=16-mixed", UNFUSED]),
        ("roco_cehnc", ["--trainer.precision=bf16-mixed", "--model.init_args.performance.compile=true"]),
        (
            "roco_cehnc",
            ["--model.init_args.performance.compile=true", "--model.init_args.performance.compile_unit=tower"],
        ),
        ("roco_cehnc", ["--trainer.strategy=ddp", "--trainer.precision=bf16-mixed"]),  # NCCL, of one process
        ("roco_cehnc", ["--model.init_args.micro_batch_size=2", "--trainer.precision=bf16-mixed"]),
    ],
    ids=["float32", "bf16_fused", "fp16", "compiled", "compiled_by_tower", "nccl", "grad_cache"],
)
def test_experiment_trains_on_the_gpu(experiment: str, switches: list[str], inputs: Path, tmp_path: Path) -> None:
    before = torch.cuda.memory_stats().get("allocation.all.allocated", 0)
    assert train(inputs, tmp_path, *switches, experiment=experiment) == 0
    assert torch.cuda.memory_stats()["allocation.all.allocated"] > before
    assert all(value.isfinite().all() for value in last(tmp_path, experiment).values() if value.is_floating_point())
    rows = list(csv.DictReader(next((tmp_path / experiment / "seed_0" / "csv").glob("*/metrics.csv")).open()))
    assert any(row.get("train/gpu_memory_gib") for row in rows)


def test_half_precision_and_a_fused_optimizer_do_not_clip(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(inputs, tmp_path, "--trainer.precision=16-mixed") == 2
    assert "fused=false" in capsys.readouterr().err


def test_float32_ends_near_the_weights_of_the_cpu_and_twice_in_the_same(inputs: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        assert train(inputs, tmp_path / name) == 0
    assert train(inputs, tmp_path / "cpu", "--trainer.accelerator=cpu") == 0
    first, second, cpu = (last(tmp_path / name) for name in ("first", "second", "cpu"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    # Adam's first steps are of the learning rate's size whatever the gradient's, so signs of tiny gradients show
    apart = torch.cat([(first[name].cpu() - cpu[name]).flatten() for name in cpu if cpu[name].is_floating_point()])
    assert apart.abs().mean() < 1e-4


def test_a_resumed_training_ends_in_the_same_weights(inputs: Path, tmp_path: Path) -> None:
    schedule = "--model.init_args.lr_schedule=null"  # the schedule's length is that of the training
    assert train(inputs, tmp_path / "whole", "--trainer.max_epochs=2", schedule) == 0
    assert train(inputs, tmp_path / "parts", "--trainer.max_epochs=1", schedule) == 0
    (tmp_path / "parts" / "phantom_cehnc" / "seed_0" / "retrieval.json").unlink()  # not finished
    assert train(inputs, tmp_path / "parts", "--trainer.max_epochs=2", schedule, resume=True) == 0
    whole, parts = last(tmp_path / "whole"), last(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_memory_that_is_not_there_is_told_with_what_to_try(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(*_: object) -> Tensor:
        return torch.empty(2**50, device="cuda")

    monkeypatch.setattr(ImageTextModel, "forward", too_much)
    assert train(inputs, tmp_path) == 1
    message = capsys.readouterr().err
    assert "CUDA out of memory" in message
    assert "--trainer.precision=bf16-mixed" in message
    assert "Traceback" not in message


def peak_and_gradients(model: ImageTextModel, batch: int = 16) -> tuple[int, list[Tensor]]:
    model.zero_grad()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    images = torch.randn(batch, 3, *model.image_size_px, generator=torch.Generator().manual_seed(0)).cuda()
    model.encode_image(images)[:, 0].sum().backward()
    return torch.cuda.max_memory_allocated() - before, [
        p.grad.clone() for p in model.parameters() if p.grad is not None
    ]


def test_gradient_checkpointing_takes_less_memory_and_gives_the_same_gradients() -> None:
    torch.manual_seed(0)
    model = ImageTextModel("ViT-B-32").cuda().train()
    plain, expected = peak_and_gradients(model)
    model.towers["image"].set_grad_checkpointing(True)
    less, found = peak_and_gradients(model)
    assert less < 0.75 * plain
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


METHODS: dict[str, Callable[[], saliency.SaliencyMethod]] = {
    "gradcam": saliency.GradCAM,
    "gradcam_plus_plus": saliency.GradCAMPlusPlus,
    "layercam": saliency.LayerCAM,
    "gscorecam": lambda: saliency.GScoreCAM(channels=8),
    "scorecam": saliency.ScoreCAM,
    "m2ib": lambda: saliency.M2IB(steps=2),
    "patch_text": saliency.PatchTextSimilarity,
}


@pytest.mark.parametrize("method", METHODS)
def test_saliency_maps_are_those_of_the_cpu(method: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ImageTextModel(f"local-dir:{write_biomedclip_folder(tmp_path / 'biomedclip')}").eval()
    pictures = torch.randn(2, 3, *model.image_size_px, generator=torch.Generator().manual_seed(1))
    texts = F.normalize(torch.randn(3, model.embedding_dim, generator=torch.Generator().manual_seed(2)), dim=1)
    made = METHODS[method]()
    expected = made(model, pictures, texts, keys=["a", "b"]).maps
    found = made(model.cuda(), pictures.cuda(), texts.cuda(), keys=["a", "b"]).maps
    assert found.is_cuda
    assert (found.cpu() - expected).abs().max() <= 2e-3 * expected.abs().max()


def test_masks_are_those_of_the_cpu(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = F.interpolate(torch.rand(2, 2, 4, 4, generator=generator), size=(32, 32), mode="bicubic").clamp(0, 1)
    images = F.interpolate(torch.rand(2, 1, 6, 6, generator=generator), size=(64, 64), mode="bicubic")[:, 0].clamp(0, 1)
    for steps, segmenter in (
        (PostProcessing([DenseCRF(), Otsu(), LargestComponents(1)]), None),
        (PostProcessing([KMeans(2)]), RandomWalkerSegmenter()),
    ):
        method = ZeroShotMethod(saliency.PatchTextSimilarity(), steps, segmenter)
        expected = method(maps, images, 2).masks
        found = method(maps.cuda(), images.cuda(), 2).masks.cpu()
        assert (found != expected).float().mean() < 2e-3
        assert expected.any()
    write_sam_folder(tmp_path / "sam")
    sam = SamSegmenter(str(tmp_path / "sam"))
    prompts = SpatialPrompts(boxes=torch.tensor([[5.0, 4, 30, 30], [20, 10, 60, 40]]))
    on_cpu = sam.decode(sam.encode(images[0]), prompts).probabilities
    sam.cuda()
    on_gpu = sam.decode(sam.encode(images[0].cuda()), SpatialPrompts(boxes=prompts.boxes.cuda())).probabilities
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, atol=1e-3, rtol=1e-3)


def test_retrieval_ranks_are_those_of_the_cpu() -> None:
    images, texts = embeddings(1500)
    for of_anchors, of_candidates in ((images, texts), (texts, images)):
        expected = retrieval_ranks(of_anchors, of_candidates, torch.arange(1500))
        found = retrieval_ranks(of_anchors.cuda(), of_candidates.cuda(), torch.arange(1500).cuda())
        assert (found.cpu() != expected).float().mean() < 2e-3


def test_a_picture_is_segmented_on_the_gpu_as_on_the_cpu(tmp_path: Path) -> None:
    torch.manual_seed(0)
    checkpoint, picture = write_checkpoint(tmp_path / "best.ckpt"), write_picture(tmp_path / "picture.png", 96, 128)
    on = {
        device: medzeroseg.segment(picture, ["lungs", "heart"], checkpoint=checkpoint, device=device)[0]
        for device in ("cpu", "cuda")
    }
    assert (on["cpu"].label_map == on["cuda"].label_map).mean() > 0.99
