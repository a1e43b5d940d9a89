import json
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file
from torch.nn import functional as F

import medzeroseg
from medzeroseg.errors import CheckpointError
from medzeroseg.export import folder as folder_module
from medzeroseg.export.folder import CONFIG_NAME, PARTS_NAME, TOWERS_NAME, from_pretrained, write_config, write_model
from medzeroseg.export.open_clip_check import compare_with_open_clip, probe_images
from medzeroseg.imaging import InputError
from medzeroseg.inference.loading import load_model
from tests.export.conftest import PARTS, build
from tests.helpers.fake_models import write_clip_folder, write_pmc_clip_folder

TEXTS = ["left ventricle of the heart", "liver"]


def export(folder: Path, **init_args: object):
    model, arguments = build(**init_args)
    folder.mkdir(parents=True)
    config = write_model(model, arguments, folder)
    write_config(config, folder)
    return model, config


def require_equal(model, read) -> None:
    """Same weights, same preprocessing, same tokens, same answers."""
    ours, theirs = model.state_dict(), read.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert model.signature == read.signature
    assert not read.training
    tokens = model.tokenizer(TEXTS)
    assert torch.equal(tokens, read.tokenizer(TEXTS))
    images = probe_images(model, 2)
    with torch.no_grad():
        torch.testing.assert_close(read.encode_text(tokens), model.encode_text(tokens))
        for found, expected in zip(
            read.encode_image_and_patches(images), model.encode_image_and_patches(images), strict=True
        ):
            torch.testing.assert_close(found, expected)
    for name in ("mean", "std"):
        assert tuple(getattr(read.preprocess, name)) == tuple(getattr(model.preprocess, name))
    assert (read.preprocess.size, read.preprocess.resize_mode, read.preprocess.interpolation) == (
        model.preprocess.size,
        model.preprocess.resize_mode,
        model.preprocess.interpolation,
    )


def test_the_small_model_with_all_its_parts_comes_back(tmp_path: Path):
    model, _ = export(tmp_path / "e", name="small", resize_mode="squash", context_length=40, **PARTS)
    require_equal(model, medzeroseg.from_pretrained(tmp_path / "e"))
    loaded = load_model(tmp_path / "e")  # what `segment --checkpoint FOLDER` does
    require_equal(model, loaded.model)
    assert len(loaded.origin["sha256"]) == 64
    assert set(load_file(tmp_path / "e" / TOWERS_NAME)) == set(model.clip.state_dict())


def test_biomedclip_comes_back_and_open_clip_agrees(tmp_path: Path, biomedclip: Path):
    model, config = export(tmp_path / "e", name=f"local-dir:{biomedclip}")
    require_equal(model, from_pretrained(tmp_path / "e"))
    assert not (tmp_path / "e" / PARTS_NAME).exists()
    assert compare_with_open_clip(model, tmp_path / "e", config["model_cfg"])["equal"]
    for path in (tmp_path / "e").glob("*.json"):  # no path of the machine that made it
        assert str(tmp_path) not in path.read_text("utf-8"), path.name
        assert str(biomedclip) not in path.read_text("utf-8"), path.name


def test_a_size_that_open_clip_cannot_say_is_ours_alone(tmp_path: Path, biomedclip: Path):
    model, config = export(tmp_path / "e", name=f"local-dir:{biomedclip}", image_size_px=96)
    require_equal(model, from_pretrained(tmp_path / "e"))
    found = compare_with_open_clip(model, tmp_path / "e", config["model_cfg"])
    assert not found["loads"]
    assert "pos_embed" in found["reason"]
    assert str(tmp_path) not in found["reason"]


def test_clip_of_open_clip_and_its_patch_path(tmp_path: Path):
    write_clip_folder(tmp_path / "released")
    model, config = export(tmp_path / "e", name=f"local-dir:{tmp_path / 'released'}", patch_path="value")
    require_equal(model, from_pretrained(tmp_path / "e"))
    assert compare_with_open_clip(model, tmp_path / "e", config["model_cfg"])["equal"]


def test_pmc_clip_keeps_its_unmasked_text_tower_which_open_clip_has_not(tmp_path: Path):
    write_pmc_clip_folder(tmp_path / "released")
    model, config = export(tmp_path / "e", name=f"pmc-clip:{tmp_path / 'released'}")
    require_equal(model, from_pretrained(tmp_path / "e"))
    found = compare_with_open_clip(model, tmp_path / "e", config["model_cfg"])
    assert found["loads"]
    assert not found["equal"]
    assert "padding" in found["reason"]
    assert found["image"] == 0


def test_open_clip_leaves_dpfem_out_and_that_is_said(tmp_path: Path):
    model, config = export(tmp_path / "e", name="small", dpfem="medzeroseg.models.DPFEM")
    found = compare_with_open_clip(model, tmp_path / "e", config["model_cfg"])
    assert found["loads"]
    assert not found["equal"]
    assert "DPFEM" in found["reason"]
    assert found["text"] == 0


@pytest.mark.slow
def test_open_clip_in_a_process_of_its_own(tmp_path: Path):
    model, _ = export(tmp_path / "e", name="small")
    program = (
        "import sys, torch, open_clip\n"
        "if sys.argv[2] == 'registered': import medzeroseg.models\n"
        "model, _, transform = open_clip.create_model_and_transforms('local-dir:' + sys.argv[1])\n"
        "tokens = open_clip.get_tokenizer('local-dir:' + sys.argv[1])(['left ventricle of the heart', 'liver'])\n"
        "torch.save(model.eval().encode_text(tokens).detach(), sys.argv[3])\n"
    )

    def run(mode: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", program, str(tmp_path / "e"), mode, str(tmp_path / "found.pt")]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    assert "local_convnet_small" in run("bare").stderr  # timm does not know our trunk
    assert run("registered").returncode == 0
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    with torch.no_grad():
        expected = model.encode_text(model.tokenizer(TEXTS))
    torch.testing.assert_close(F.normalize(found, dim=-1), expected)


def test_open_clips_preprocessing_is_ours(tmp_path: Path, biomedclip: Path):
    model, _ = export(tmp_path / "e", name=f"local-dir:{biomedclip}")
    text_cfg = json.loads((tmp_path / "e" / CONFIG_NAME).read_text("utf-8"))["model_cfg"]["text_cfg"]
    _, _, transform = open_clip.create_model_and_transforms(
        f"local-dir:{tmp_path / 'e'}", text_cfg={**text_cfg, "hf_model_name": str(tmp_path / "e")}
    )
    from PIL import Image

    from tests.helpers.fake_inference import write_picture

    with Image.open(write_picture(tmp_path / "picture.png", 50, 70)) as picture:
        assert torch.equal(transform(picture), model.image_transform()(picture))


def test_what_is_no_exported_model_is_refused(tmp_path: Path, biomedclip: Path):
    with pytest.raises(CheckpointError, match="no exported model"):
        from_pretrained(tmp_path / "gone")
    with pytest.raises(CheckpointError, match="no exported model"):
        from_pretrained(biomedclip)  # a released folder has no section of ours
    _, config = export(tmp_path / "e", name="small", **PARTS)
    own = config["medzeroseg"]
    write_config({**config, "medzeroseg": {**own, "format": 99}}, tmp_path / "e")
    with pytest.raises(CheckpointError, match="form 99"):
        from_pretrained(tmp_path / "e")
    evil = {**own, "init_args": {"dpfem": "antigravity.fly"}}
    write_config({**config, "medzeroseg": evil}, tmp_path / "e")
    with pytest.raises(CheckpointError, match=r"antigravity\.fly, which is not of this package"):
        from_pretrained(tmp_path / "e")
    write_config(config, tmp_path / "e")
    (tmp_path / "e" / PARTS_NAME).unlink()
    with pytest.raises(InputError, match=PARTS_NAME):
        from_pretrained(tmp_path / "e")
    (tmp_path / "e" / TOWERS_NAME).write_bytes(b"damaged")
    with pytest.raises(InputError, match=TOWERS_NAME):
        from_pretrained(tmp_path / "e")


def test_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model, _ = export(tmp_path / "e", name="small")
    asked = []

    def snapshot(repo: str, allow_patterns: list[str]) -> str:
        asked.append(repo)
        assert not any(pattern.endswith((".bin", ".ckpt", ".pt")) for pattern in allow_patterns)
        return str(tmp_path / "e")

    monkeypatch.setattr(folder_module, "snapshot_download", snapshot)
    require_equal(model, from_pretrained("hf-hub:someone/model"))
    assert asked == ["someone/model"]

    def offline(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(folder_module, "snapshot_download", offline)
    with pytest.raises(CheckpointError, match="hf download someone/model"):
        from_pretrained("hf-hub:someone/model")
