"""What of the towers is trained, how fast, and what is kept in memory."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from medzeroseg.losses import InfoNCELoss
from medzeroseg.models import DPFEM, ImageTextModel, PatchTower
from medzeroseg.parameter_groups import scale_learning_rates
from medzeroseg.tasks import ContrastiveTask, TowerTuning
from tests.helpers.fake_models import write_biomedclip_folder, write_clip_folder
from tests.helpers.process_pool import run_in_processes


@pytest.fixture(scope="module")
def biomedclip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Six blocks in the image tower, two in the text tower."""
    return f"local-dir:{write_biomedclip_folder(tmp_path_factory.mktemp('biomedclip'))}"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"local-dir:{write_clip_folder(tmp_path_factory.mktemp('clip'))}"


def make_task(name: str, **tuning: Any) -> ContrastiveTask:
    torch.manual_seed(0)
    return ContrastiveTask(ImageTextModel(name), InfoNCELoss(), towers=TowerTuning(**tuning))


def pairs(task: ContrastiveTask) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, *task.model.image_size_px, generator=generator)
    return images, task.model.tokenizer(["liver", "lungs of a patient"])


def gradients(task: ContrastiveTask) -> dict[str, Tensor]:
    loss = task.loss(*task.embed_for_training(*pairs(task)))
    loss.backward()
    return {name: p.grad for name, p in task.named_parameters() if p.grad is not None}


def rates(task: ContrastiveTask, lr: float) -> dict[str, float]:
    """Parameter -> learning rate."""
    optimizer = torch.optim.AdamW(task.parameter_groups(), lr=lr)
    scale_learning_rates(optimizer.param_groups)
    of_id = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(of_id) == sum(len(group["params"]) for group in optimizer.param_groups)
    return {name: of_id[id(p)] for name, p in task.named_parameters()}


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_what_was_added_to_pretrained_towers_learns_faster(clip: str, layer_decay: float) -> None:
    torch.manual_seed(0)
    model = ImageTextModel(clip, dpfem=DPFEM, patch_tower=PatchTower)
    tuning = TowerTuning(layer_decay=layer_decay, added_lr_scale=100)
    found = rates(ContrastiveTask(model, InfoNCELoss(), towers=tuning), 1e-6)
    added = {name: rate for name, rate in found.items() if not name.startswith(("model.clip.", "loss."))}
    assert {name.split(".")[1] for name in added} == {"dpfem", "patch_dpfem", "patch_tower"}
    assert list(added.values()) == pytest.approx([1e-4] * len(added))
    assert max(rate for name, rate in found.items() if name not in added) == pytest.approx(1e-6)


def test_rates_of_a_vit_and_a_bert_by_hand(biomedclip: str) -> None:
    found = rates(make_task(biomedclip, layer_decay=0.5), 1.28e-4)
    by_prefix = {
        "clip.visual.trunk.patch_embed.proj.weight": 1e-6,  # 1.28e-4 x 0.5^7: the embedding, six blocks above it
        "clip.visual.trunk.pos_embed": 1e-6,
        "clip.visual.trunk.cls_token": 1e-6,
        "clip.visual.trunk.blocks.0.attn.qkv.weight": 2e-6,
        "clip.visual.trunk.blocks.0.norm1.bias": 2e-6,
        "clip.visual.trunk.blocks.5.mlp.fc2.weight": 64e-6,
        "clip.visual.trunk.norm.weight": 128e-6,
        "clip.visual.head.proj.weight": 128e-6,
        "clip.text.transformer.embeddings.word_embeddings.weight": 16e-6,  # two blocks above it
        "clip.text.transformer.encoder.layer.0.attention.self.query.weight": 32e-6,
        "clip.text.transformer.encoder.layer.1.output.dense.bias": 64e-6,
        "clip.logit_scale": 128e-6,
    }
    for name, rate in by_prefix.items():
        assert found[f"model.{name}"] == pytest.approx(rate), name


def test_rates_of_clips_own_transformers_by_hand(clip: str) -> None:
    task = make_task(clip, layer_decay=0.1)
    blocks = len(task.model.towers["image"].blocks())
    found = rates(task, 1.0)
    assert found["model.clip.visual.class_embedding"] == pytest.approx(0.1 ** (blocks + 1))
    assert found["model.clip.visual.transformer.resblocks.0.mlp.c_fc.weight"] == pytest.approx(0.1**blocks)
    assert found["model.clip.text.transformer.resblocks.0.ln_1.weight"] == pytest.approx(
        0.1 ** len(task.model.towers["text"].blocks())
    )
    assert found["model.clip.visual.proj"] == 1.0


def test_without_a_decay_all_learn_alike_in_two_groups(biomedclip: str) -> None:
    task = make_task(biomedclip)
    assert [sorted(group) for group in task.parameter_groups()] == [["params"], ["params", "weight_decay"]]
    assert set(rates(task, 3.0).values()) == {3.0}


def test_what_is_frozen_gets_no_gradient_no_optimizer_state_and_stays_in_evaluation_mode(biomedclip: str) -> None:
    task = make_task(biomedclip, freeze_text="all", freeze_image=2)
    found = gradients(task.train())
    assert not [name for name in found if name.startswith("model.clip.text.")]
    assert "model.clip.visual.trunk.blocks.1.attn.qkv.weight" in found
    assert "model.clip.visual.trunk.blocks.0.attn.qkv.weight" not in found
    assert "model.clip.visual.trunk.pos_embed" not in found
    optimizer = torch.optim.AdamW(task.parameter_groups())
    optimizer.step()
    assert len(optimizer.state) == len(found)
    text = task.model.clip.text
    assert [m for m in text.modules() if isinstance(m, nn.Dropout)]  # which would draw, else
    assert not any(module.training for module in text.modules())
    assert not task.model.clip.visual.trunk.blocks[0].training
    assert task.model.clip.visual.trunk.blocks[1].training
    torch.testing.assert_close(*(task.model.encode_text(pairs(task)[1]) for _ in range(2)), rtol=0, atol=0)


def test_more_layers_than_there_are_cannot_be_frozen(biomedclip: str) -> None:
    with pytest.raises(ValueError, match="cannot freeze 4 layers of HFTextEncoder, which has 3"):
        make_task(biomedclip, freeze_text=4)
    with pytest.raises(ValueError, match="layer_decay"):
        TowerTuning(layer_decay=0.0)
    with pytest.raises(ValueError, match="added_lr_scale must be above 0"):
        TowerTuning(added_lr_scale=0.0)
    with pytest.raises(ValueError, match=r"added_lr_scale is for DPFEM .* has neither"):
        make_task(biomedclip, added_lr_scale=100)


@pytest.mark.parametrize("family", ["biomedclip", "clip", "small"])
def test_towers_that_compute_again_give_the_same_gradients(family: str, request: pytest.FixtureRequest) -> None:
    name = family if family == "small" else request.getfixturevalue(family)
    expected = gradients(make_task(name).eval())
    task = make_task(name, gradient_checkpointing=("image", "text")).train()
    for module in task.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    calls: list[str] = []
    block = task.model.towers["image"].blocks()[0]
    block.register_forward_pre_hook(lambda *_: calls.append("forward"))
    found = gradients(task)
    assert len(calls) == 2
    assert found.keys() == expected.keys()
    for key, gradient in found.items():
        torch.testing.assert_close(gradient, expected[key], rtol=1e-4, atol=1e-6, msg=key)


class _Step(nn.Module):
    """A training step as DDP wants it: one forward."""

    def __init__(self, task: ContrastiveTask) -> None:
        super().__init__()
        self.task = task

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        return self.task.loss(*self.task.embed_for_training(images, tokens))


def _two_steps(name: str) -> list[dict[str, Tensor]]:
    task = make_task(name, freeze_text="all", freeze_image=1, gradient_checkpointing=("image",)).train()
    step, found = DistributedDataParallel(_Step(task)), []
    for _ in range(2):  # the second is where DDP complains of parameters without a gradient
        step(*pairs(task)).backward()
        found.append(copy.deepcopy({name: p.grad for name, p in task.named_parameters() if p.grad is not None}))
    return found


def test_ranks_train_with_a_frozen_tower_without_a_complaint(biomedclip: str) -> None:
    one, other = run_in_processes(_two_steps, 2, biomedclip)
    for mine, theirs in zip(one, other, strict=True):
        assert mine.keys() == theirs.keys()
        assert not [name for name in mine if name.startswith("model.clip.text.")]
        for name, gradient in mine.items():
            assert torch.equal(gradient, theirs[name]), name


def test_residual_towers_cannot_compute_again(tmp_path: Path) -> None:
    from tests.helpers.fake_models import write_pmc_clip_folder

    with pytest.raises(ValueError, match="ModifiedResNet cannot checkpoint gradients"):
        make_task(f"pmc-clip:{write_pmc_clip_folder(tmp_path)}", gradient_checkpointing=("image",))
