import sys
from pathlib import Path

import onnxruntime
import pytest
import torch

from medzeroseg.errors import ConfigurationError
from medzeroseg.export import graphs
from medzeroseg.export.graphs import GraphError, SimilarityGraph, check_graph, require_packages, write_graphs
from medzeroseg.export.open_clip_check import probe_images
from medzeroseg.models import ImageTextModel
from medzeroseg.saliency import PatchTextEvidence, PatchTextSimilarity
from tests.export.conftest import PARTS, build
from tests.helpers.fake_models import write_clip_folder

WORDS = ["left ventricle", "liver", "spleen"]


def run(path: Path, **inputs: torch.Tensor) -> list[torch.Tensor]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [
        torch.from_numpy(value) for value in session.run(None, {key: value.numpy() for key, value in inputs.items()})
    ]


def require_maps_of(model: ImageTextModel, method, folder: Path) -> None:
    """The chain of the three graphs gives the maps of a saliency method, for another batch than it was made with."""
    images, tokens = probe_images(model, 4), model.tokenizer(WORDS)
    (texts,) = run(folder / "text.onnx", tokens=tokens)
    embeddings, patches = run(folder / "image.onnx", images=images)
    (maps,) = run(folder / "similarity.onnx", patches=patches, text_embeddings=texts)
    with torch.no_grad():
        torch.testing.assert_close(texts, model.encode_text(tokens), atol=1e-4, rtol=0)
        torch.testing.assert_close(embeddings, model.encode_image(images), atol=1e-4, rtol=0)
        expected = method(model, images, texts, keys=list("abcd")).maps
    torch.testing.assert_close(maps, expected, atol=1e-3, rtol=1e-4)


@pytest.mark.slow
def test_the_small_model_with_dpfem_and_patch_tower(tmp_path: Path):
    model, _ = build(name="small", **PARTS)
    found = write_graphs(model, tmp_path / "onnx")
    assert set(found["graphs"]) == {"image", "text", "similarity"}
    assert all(graph["max_abs_difference"] < 1e-4 * 100 for graph in found["graphs"].values())
    assert "evidence" in found["maps"]
    require_maps_of(model, PatchTextEvidence(), tmp_path / "onnx")
    assert sorted(path.name for path in (tmp_path / "onnx").iterdir()) == ["image.onnx", "similarity.onnx", "text.onnx"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["biomedclip", "clip"])
def test_vision_transformers(tmp_path: Path, biomedclip: Path, kind: str):
    folder = biomedclip if kind == "biomedclip" else write_clip_folder(tmp_path / "clip")
    options = {"dpfem": "medzeroseg.models.DPFEM"} if kind == "biomedclip" else {"patch_path": "value_value"}
    model, _ = build(name=f"local-dir:{folder}", **options)
    found = write_graphs(model, tmp_path / "onnx")
    assert "cosines" in found["maps"]
    require_maps_of(model, PatchTextSimilarity(), tmp_path / "onnx")


def test_similarity_is_the_definition():
    patches, texts = torch.randn(2, 5, 3, 4), torch.nn.functional.normalize(torch.randn(6, 5), dim=-1)
    cosines = SimilarityGraph(evidence=False)(patches, texts)
    evidence = SimilarityGraph(evidence=True)(patches, texts)
    assert cosines.shape == evidence.shape == (2, 6, 3, 4)
    for b, p, y, x in ((0, 0, 0, 0), (1, 5, 2, 3), (1, 2, 0, 1)):
        dot = float(patches[b, :, y, x] @ texts[p])
        assert float(cosines[b, p, y, x]) == pytest.approx(dot / float(patches[b, :, y, x].norm()), abs=1e-5)
        assert float(evidence[b, p, y, x]) == pytest.approx(PatchTextEvidence().scale * dot, abs=1e-5)


def test_a_graph_that_disagrees_is_not_left_behind(tmp_path: Path):
    class Twice(torch.nn.Module):
        factor = 2.0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.factor * x

    module, path, probe = Twice().eval(), tmp_path / "twice.onnx", {"x": torch.ones(2, 3)}
    torch.onnx.export(module, (probe["x"],), str(path), input_names=["x"], dynamo=True, verbose=False)
    assert check_graph(path, module, probe) == 0
    module.factor = 2.001
    with pytest.raises(GraphError, match=r"twice\.onnx is not written: onnxruntime differs from torch by 0\.001"):
        check_graph(path, module, probe)
    assert not path.exists()
    path.write_bytes(b"no graph")
    with pytest.raises(GraphError, match="cannot run"):
        check_graph(path, module, probe)
    assert not path.exists()


def test_missing_packages_are_named_with_the_extra(monkeypatch: pytest.MonkeyPatch):
    require_packages()
    monkeypatch.setattr(graphs, "find_spec", lambda name: None if name == "onnxruntime" else sys)
    with pytest.raises(ConfigurationError, match=r"needs onnxruntime: pip install 'medzeroseg\[onnx\]'"):
        require_packages()
