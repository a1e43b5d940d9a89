"""`medzeroseg export`, whole, and what it refuses."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from huggingface_hub.errors import HfHubHTTPError

import medzeroseg
from medzeroseg.export import hub
from medzeroseg.main import main
from tests.helpers.fake_inference import MODEL, write_checkpoint, write_picture


class FakeApi:
    """The boundary to the hub: remembers what it was asked, or fails."""

    calls: list[tuple[str, dict[str, object]]] = []  # noqa: RUF012 - reset by the fixture
    fault: Exception | None = None

    def create_repo(self, repo_id: str, **options: object) -> None:
        FakeApi.calls.append(("create_repo", {"repo_id": repo_id, **options}))
        if FakeApi.fault is not None:
            raise FakeApi.fault

    def upload_folder(self, **options: object) -> str:
        files = sorted(path.name for path in Path(str(options["folder_path"])).iterdir())
        FakeApi.calls.append(("upload_folder", {**options, "files": files}))
        return "https://hub/commit/1"


@pytest.fixture(autouse=True)
def api(monkeypatch: pytest.MonkeyPatch) -> type[FakeApi]:
    FakeApi.calls, FakeApi.fault = [], None
    monkeypatch.setattr(hub, "HfApi", FakeApi)
    return FakeApi


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, as a training leaves it, on a machine whose paths name people."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "phantom_mine" / "seed_3"
    (folder / "checkpoints").mkdir(parents=True)
    checkpoint = write_checkpoint(folder / "checkpoints" / "best.ckpt")
    content = torch.load(checkpoint, weights_only=True)
    content["config"]["model"]["init_args"] |= {
        "loss": {"class_path": "medzeroseg.losses.CEHNCLoss", "init_args": {"hard_fraction": 0.5}},
        "prompts": "/home/jane.doe/prompts.yaml",
    }
    content["config"] |= {
        "data": {
            "class_path": "data_modules.PhantomROCODataModule",
            "init_args": {"root": "/data/jane.doe/patient_4711", "train": 40, "batch_size": 8},
        },
        "trainer": {"max_epochs": 7, "max_steps": -1},
    }
    torch.save(content, checkpoint)
    record = {
        "dataset": "phantom",
        "seed": 3,
        "test_pairs": 1000,
        "small_gallery": 50,
        "metrics": {"i2t_top1": 16.25, "t2i_top1_of50": 73.5},
        "git_revision": "abc123",
        "config_hash": "aef95364",
    }
    (folder / "retrieval.json").write_text(json.dumps(record), "utf-8")
    return folder


def export(checkpoint: Path, output: Path, *words: str) -> int:
    return main(["export", str(checkpoint), "--output", str(output), *words])


def test_a_run_becomes_a_folder_with_its_card(run_folder: Path, tmp_path: Path, capsys, api):
    assert export(run_folder / "checkpoints" / "best.ckpt", tmp_path / "mine") == 0
    said = capsys.readouterr().out
    assert "open_clip loads it after `import medzeroseg.models` with equal embeddings" in " ".join(said.split())
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [
        "README.md",
        "open_clip_config.json",
        "open_clip_model.safetensors",
    ]
    card = (tmp_path / "mine" / "README.md").read_text("utf-8")
    head = yaml.safe_load(card.split("---")[1])
    assert head["license"] == "mit"
    for part in (
        *("# phantom_mine", "Not a medical device", "PhantomROCODataModule", "no patients", "train: 40", "CEHNCLoss"),
        *("hard_fraction 0.5", "max epochs: 7", "| i2t_top1 | 16.2 |", "| t2i_top1_of50 | 73.5 |", "abc123"),
        *("seed 3", "## Limits", "## Licence", "import medzeroseg.models", "are equal"),
    ):
        assert part in card, part
    everything = card + (tmp_path / "mine" / "open_clip_config.json").read_text("utf-8")
    for secret in ("jane.doe", "4711", str(tmp_path), "/home"):
        assert secret not in everything, secret
    assert api.calls == []  # nothing is sent without being asked for
    model = medzeroseg.from_pretrained(tmp_path / "mine")
    state = torch.load(run_folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(state[f"model.{name}"], value) for name, value in model.state_dict().items())


def test_segment_takes_the_folder(run_folder: Path, tmp_path: Path, capsys):
    assert export(run_folder / "checkpoints" / "best.ckpt", tmp_path / "mine") == 0
    picture = write_picture(tmp_path / "picture.png", 48, 64)
    masks = []
    for name, model in (("a", run_folder / "checkpoints" / "best.ckpt"), ("b", tmp_path / "mine")):
        words = ["--text", "heart", "--checkpoint", str(model), "--device", "cpu", "--output", str(tmp_path / name)]
        assert main(["segment", str(picture), *words]) == 0
        masks.append((tmp_path / name / "picture" / "labels.png").read_bytes())
    assert masks[0] == masks[1]


def test_pushing_is_private_unless_said_otherwise(run_folder: Path, tmp_path: Path, capsys, api):
    checkpoint = run_folder / "checkpoints" / "best.ckpt"
    assert export(checkpoint, tmp_path / "a", "--push-to", "someone/model") == 0
    assert "https://hub/commit/1" in capsys.readouterr().out
    (create, made), (upload, sent) = api.calls
    assert (create, upload) == ("create_repo", "upload_folder")
    assert made == {"repo_id": "someone/model", "repo_type": "model", "private": True, "exist_ok": True}
    assert sent["repo_id"] == "someone/model"
    assert sent["files"] == ["README.md", "open_clip_config.json", "open_clip_model.safetensors"]
    assert export(checkpoint, tmp_path / "b", "--push-to", "someone/model", "--public") == 0
    assert api.calls[2][1]["private"] is False


def test_a_hub_that_refuses_leaves_the_folder_whole(run_folder: Path, tmp_path: Path, capsys, api):
    response = SimpleNamespace(headers={}, status_code=403, request=None)
    api.fault = HfHubHTTPError("403 Forbidden", response=response)
    assert export(run_folder / "checkpoints" / "best.ckpt", tmp_path / "a", "--push-to", "someone/model") == 2
    message = capsys.readouterr().err
    assert "someone/model: 403 Forbidden" in message
    assert "Traceback" not in message
    medzeroseg.from_pretrained(tmp_path / "a")


def test_what_cannot_be_exported_is_named_and_nothing_is_replaced(run_folder: Path, tmp_path: Path, capsys, api):
    checkpoint = run_folder / "checkpoints" / "best.ckpt"
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    for words in ([], ["--overwrite"]):
        assert export(checkpoint, tmp_path / "thesis", *words) == 2
        assert "thesis" in capsys.readouterr().err
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "mine"
    assert export(tmp_path / "gone.ckpt", tmp_path / "a") == 2
    assert export(checkpoint, tmp_path / "a", "--push-to", "no repository") == 2
    assert "OWNER/NAME" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
    assert not list(tmp_path.glob(".*.tmp"))
    assert api.calls == []


def test_an_exported_folder_is_replaced_when_asked_to(run_folder: Path, tmp_path: Path, capsys):
    checkpoint = run_folder / "checkpoints" / "best.ckpt"
    assert export(checkpoint, tmp_path / "a") == 0
    assert export(checkpoint, tmp_path / "a") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert export(checkpoint, tmp_path / "a", "--overwrite", "--name", "Another title", "--license", "cc0-1.0") == 0
    card = (tmp_path / "a" / "README.md").read_text("utf-8")
    assert "# Another title" in card
    assert "license: cc0-1.0" in card


def test_a_checkpoint_that_knows_nothing_says_so(tmp_path: Path, capsys):
    checkpoint = write_checkpoint(tmp_path / "last.ckpt", MODEL)
    assert export(checkpoint, tmp_path / "a") == 0
    card = (tmp_path / "a" / "README.md").read_text("utf-8")
    assert "does not say what it was trained on" in card
    assert "No test of this run was recorded" in card
    assert "license: other" in card
