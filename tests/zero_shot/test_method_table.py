"""The table of methods: order, shared maps, models that do not fit, rows as an experiment writes them."""

from typing import Any

import pytest
import torch

from medzeroseg.errors import ConfigurationError
from medzeroseg.models import DPFEM, ImageTextModel
from medzeroseg.postprocessing import DenseCRF, Otsu, PostProcessing
from medzeroseg.saliency import DPFEMSimilarity, GradCAM, GScoreCAM, PatchTextSimilarity
from medzeroseg.zero_shot import CentreBox, ConfiguredMethods, MethodTable, ZeroShotMethod


def table() -> MethodTable:
    return MethodTable(
        {
            "b": ZeroShotMethod(GScoreCAM(channels=10)),
            "a": ZeroShotMethod(GScoreCAM(channels=10), PostProcessing([Otsu()])),
            "c": ZeroShotMethod(GScoreCAM(channels=20)),
            "d": ZeroShotMethod(GradCAM()),
            "e": ZeroShotMethod(GradCAM(), points=1),
        }
    )


def test_rows_keep_their_order() -> None:
    assert list(table()) == [key for key, _ in table().items()] == ["b", "a", "c", "d", "e"]
    assert len(table()) == 5


def test_rows_share_maps_only_where_class_and_settings_are_equal() -> None:
    assert table().shared_saliency() == {"b": ["b", "a"], "c": ["c"], "d": ["d", "e"]}


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        MethodTable({})


@pytest.mark.parametrize(
    "method",
    [
        ZeroShotMethod(DPFEMSimilarity()),
        ZeroShotMethod(PatchTextSimilarity(), PostProcessing([DenseCRF(feature_weight=1.0), Otsu()]), guided=True),
    ],
)
def test_a_method_that_wants_dpfem_refuses_a_model_without(method: ZeroShotMethod) -> None:
    methods = MethodTable({"box": ZeroShotMethod(CentreBox()), "mine": method})
    with pytest.raises(ConfigurationError, match="methods: mine: model has no DPFEM"):
        methods.check_model(ImageTextModel("small"))
    methods.check_model(ImageTextModel("small", dpfem=DPFEM))


def test_a_layer_that_the_model_lacks_is_refused_before_any_image() -> None:
    with pytest.raises(ConfigurationError, match=r"methods: cam: layer 'nowhere' .* it has: "):
        MethodTable({"cam": ZeroShotMethod(GradCAM(layer="nowhere"))}).check_model(ImageTextModel("small"))


ROW: dict[str, Any] = {"saliency": {"class_path": "medzeroseg.saliency.GradCAM", "init_args": {"relu": False}}}


def test_rows_are_built_from_plain_values_and_the_first_of_a_key_counts() -> None:
    other = MethodTable({"cam": ZeroShotMethod(CentreBox()), "box": ZeroShotMethod(CentreBox(), baseline=True)})
    methods = ConfiguredMethods({"cam": ROW | {"title": "Mine", "points": 2}}, and_also=other)
    assert list(methods) == ["cam", "box"]
    assert (methods["cam"].title, methods["cam"].points) == ("Mine", 2)
    assert isinstance(methods["cam"].saliency, GradCAM)
    assert methods["cam"].saliency.relu is False
    assert methods["box"].baseline


@pytest.mark.parametrize("extra", [{"pints": 1}, {"points": -1}, {"saliency": {"class_path": "medzeroseg.nowhere.X"}}])
def test_a_bad_row_is_named(extra: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="methods: cam: "):
        ConfiguredMethods({"cam": ROW | extra})


def test_a_map_depends_on_its_text() -> None:
    model = ImageTextModel("small").eval()
    images = torch.rand(1, 3, *model.image_size_px, generator=torch.Generator().manual_seed(0))
    texts = model.encode_text(model.tokenizer(["liver", "spleen"]))
    for saliency in (PatchTextSimilarity(), GradCAM(relu=False)):
        maps = saliency(model, images, texts, keys=["a"]).maps[0]
        assert not torch.allclose(maps[0], maps[1])
        same = saliency(model, images, texts[[0, 0]], keys=["a"]).maps[0]
        torch.testing.assert_close(same[0], same[1])
