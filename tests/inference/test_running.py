"""What a finished result is taken for when a run comes to its input again."""

from pathlib import Path

import pytest

from medzeroseg.errors import OutputError
from medzeroseg.inference.api import prepare
from medzeroseg.inference.inputs import find_inputs
from medzeroseg.inference.request import SegmentationRequest
from medzeroseg.inference.running import Outcome, Saving
from tests.helpers.fake_inference import write_picture

TEMPLATES = "templates: {any: ['{}']}\n"


@pytest.mark.parametrize("more", ["neighbours: {any: [liver]}\n", "projections: [chest X-ray]\n"])
def test_prompts_that_give_other_maps_give_another_result(
    checkpoint: Path, quick_method: Path, tmp_path: Path, more: str
) -> None:
    inputs, _ = find_inputs([write_picture(tmp_path / "chest.png")])

    def segment(prompts: str) -> Outcome:
        path = tmp_path / "prompts.yaml"
        path.write_text(prompts, encoding="utf-8")
        saving = Saving(tmp_path / "out")
        run = prepare(
            SegmentationRequest(("heart",)),
            checkpoint=checkpoint,
            method=quick_method,
            prompts=path,
            saving=saving,
            device="cpu",
        )
        [outcome] = run.outcomes(inputs)
        return outcome

    assert segment(TEMPLATES).result is not None
    again = segment(TEMPLATES)
    assert (again.result, again.fault) == (None, None)  # done before
    fault = segment(TEMPLATES + more).fault
    assert isinstance(fault, OutputError)
    assert "other settings" in str(fault)
