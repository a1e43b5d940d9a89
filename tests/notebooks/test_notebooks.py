"""The notebooks: the two files of each agree, hold no outputs, and run with small sizes."""

import json
import os
import runpy
from pathlib import Path

import pytest

from notebooks import execute

os.environ.setdefault("MPLBACKEND", "agg")


def test_there_are_five() -> None:
    assert execute.NAMES == ["1_losses", "2_fine_tune", "3_segment", "4_acdc", "5_saliency"]


@pytest.mark.parametrize("name", execute.NAMES)
def test_the_pair_agrees_and_has_no_outputs(name: str) -> None:
    kept = (execute.FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    assert kept == execute.as_text(execute.read_notebook(name)), "run: python -m notebooks.execute --sync"
    cells = [cell for cell in json.loads(kept)["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


@pytest.mark.parametrize("name", execute.NAMES)
def test_there_is_one_parameter(name: str) -> None:
    cells = [cell for cell in execute.read_notebook(name).cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(cells) == 1
    assert cells[0].source.startswith("SMALL = False")


def test_the_losses_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the process, without a kernel: it needs neither data nor model."""
    import matplotlib.pyplot as plt

    source = (execute.FOLDER / "1_losses.py").read_text(encoding="utf-8")
    script = tmp_path / "losses.py"
    script.write_text(source.replace("SMALL = False", "SMALL = True"), encoding="utf-8")
    drawn = []
    monkeypatch.setattr(plt, "show", lambda: drawn.append(plt.gcf()))
    values = runpy.run_path(str(script))
    assert len(drawn) == 4
    push = values["push"]
    share = {name: push(loss)[values["off"]] for name, loss in values["family"].items()}
    # selection leaves no push on the easy 90 %; without it every negative gets some
    assert (share["CEHNC λ = 1, hardest 10 %"] > 0).float().mean() < 0.3 < (share["InfoNCE"] > 0).float().mean()
    plt.close("all")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", execute.NAMES)
def test_it_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("NOTEBOOK_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel's own puts plots into the notebook
    execute.execute(name, tmp_path, small=True)
    executed = json.loads((tmp_path / f"{name}.ipynb").read_text(encoding="utf-8"))
    outputs = [output for cell in executed["cells"] if cell["cell_type"] == "code" for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs), "no plot"
