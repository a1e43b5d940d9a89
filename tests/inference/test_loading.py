from pathlib import Path

import pytest
import torch
import yaml

from medzeroseg.errors import CheckpointError, ConfigurationError
from medzeroseg.imaging import InputError
from medzeroseg.inference.loading import choose_device, default_method, load_method, load_model
from medzeroseg.models import ImageTextModel, PatchTower
from tests.helpers.fake_inference import MODEL, write_checkpoint
from tests.helpers.fake_models import write_biomedclip_folder


def test_a_checkpoint_brings_its_own_model(checkpoint: Path):
    loaded = load_model(checkpoint)
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    weights = {f"model.{name}": value for name, value in loaded.model.state_dict().items()}
    assert all(torch.equal(weights[name], value) for name, value in state.items())
    assert not loaded.model.training
    assert loaded.origin["checkpoint"] == "best.ckpt"
    assert len(loaded.origin["sha256"]) == 64


def test_a_configuration_beside_it_serves_where_it_has_none(tmp_path: Path, checkpoint: Path):
    content = torch.load(checkpoint, weights_only=True)
    torch.save({"state_dict": content["state_dict"]}, tmp_path / "bare.ckpt")
    with pytest.raises(CheckpointError, match=r"does not say which model.*--config"):
        load_model(tmp_path / "bare.ckpt")
    for name, config in (("run.yaml", content["config"]), ("model.yaml", MODEL)):
        (tmp_path / name).write_text(yaml.safe_dump(config), "utf-8")
        assert load_model(tmp_path / "bare.ckpt", tmp_path / name).model.name == "small"


@pytest.mark.parametrize("dpfem", [{"class_path": "antigravity.fly"}, "antigravity.fly"])
def test_a_checkpoint_may_not_choose_foreign_classes(tmp_path: Path, dpfem: object):
    evil = {**MODEL, "init_args": {"name": "small", "dpfem": dpfem}}
    with pytest.raises(CheckpointError, match=r"antigravity\.fly, which is not of this package"):
        load_model(write_checkpoint(tmp_path / "evil.ckpt", evil))


def test_checkpoints_that_do_not_serve_are_named(tmp_path: Path, checkpoint: Path):
    with pytest.raises(CheckpointError, match="No checkpoint at"):
        load_model(tmp_path / "gone.ckpt")
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match=r"text\.ckpt"):
        load_model(tmp_path / "text.ckpt")
    torch.save({"epoch": 1}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="no 'state_dict'"):
        load_model(tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="not the checkpoint of an image-text model"):
        load_model(write_checkpoint(tmp_path / "task.ckpt", None))
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"].popitem()
    torch.save(content, tmp_path / "short.ckpt")
    with pytest.raises(CheckpointError, match=r"(?s)short.ckpt does not fit.*missing in the checkpoint"):
        load_model(tmp_path / "short.ckpt")


def test_a_released_model_and_its_misuse(tmp_path: Path, checkpoint: Path):
    folder = write_biomedclip_folder(tmp_path / "clip")
    assert load_model(name=f"local-dir:{folder}").origin["name"].startswith("local-dir:")
    with pytest.raises(ConfigurationError, match="random weights"):
        load_model(name="ViT-B-16")
    with pytest.raises(ConfigurationError, match="not both"):
        load_model(checkpoint, name="small")
    with pytest.raises(ConfigurationError, match="either a checkpoint or the name"):
        load_model()
    with pytest.raises(ConfigurationError, match="pretrained"):
        load_model(checkpoint, pretrained="openai")
    with pytest.raises(ConfigurationError, match="config"):
        load_model(name="small", pretrained="x", config=checkpoint)
    with pytest.raises(InputError, match="no model folder"):
        load_model(name=f"local-dir:{tmp_path / 'gone'}")


@pytest.mark.parametrize(
    ("patch_tower", "saliency"),
    [
        (None, {"class_path": "medzeroseg.saliency.PatchTextSimilarity"}),
        (PatchTower, {"class_path": "medzeroseg.saliency.PatchTextEvidence", "init_args": {"looks": 4}}),
    ],
)
def test_the_packaged_method_suits_the_model(patch_tower, saliency):
    loaded = load_method(default_method(ImageTextModel("small", patch_tower=patch_tower)))
    assert (loaded.method.segmenter is None) == (patch_tower is not None)
    assert loaded.compare_with is None  # the neighbours of the modality
    assert loaded.settings["saliency"] == saliency


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("saliency: [", "no valid YAML"),
        ("just words", "expected keys"),
        ("compare_with: heart\nsaliency: {}", "compare_with"),
        ("points: 1", "saliency is missing"),
        ("saliency: {class_path: medzeroseg.saliency.Nothing}", "Nothing"),
        ("saliency: {class_path: medzeroseg.saliency.GradCAM}\npoints: -1", "points"),
    ],
)
def test_methods_that_cannot_be_built_are_named(tmp_path: Path, content: str, message: str):
    path = tmp_path / "mine.yaml"
    path.write_text(content, "utf-8")
    with pytest.raises(ConfigurationError, match=rf"(?s)mine\.yaml.*{message}"):
        load_method(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_method(tmp_path / "gone.yaml")


def test_a_missing_segmenter_folder_is_named(tmp_path: Path):
    path = tmp_path / "sam.yaml"
    sam = {"class_path": "medzeroseg.segmenters.SamSegmenter", "init_args": {"name": str(tmp_path / "sam")}}
    path.write_text(
        yaml.safe_dump({"saliency": {"class_path": "medzeroseg.saliency.GradCAM"}, "segmenter": sam}), "utf-8"
    )
    with pytest.raises(InputError, match=f"{tmp_path / 'sam'}: there is no such folder"):
        load_method(path)


def test_devices(monkeypatch: pytest.MonkeyPatch):
    assert choose_device("cpu").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device().type == "cpu"
    for name, message in (("cuda", "no CUDA GPU"), ("abacus", "unknown"), ("meta", "cannot be used")):
        with pytest.raises(ConfigurationError, match=message):
            choose_device(name)
