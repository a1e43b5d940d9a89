"""One row a run: what a person compares, and nothing of the machine."""

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from medzeroseg.dashboard import compared_metrics, compared_settings, write_comparison
from medzeroseg.tables.table2 import METRICS as TABLE2_METRICS
from medzeroseg.tables.table3_rows import METRICS as TABLE3_METRICS

CONFIG = {
    "model": {
        "class_path": "medzeroseg.tasks.ContrastiveTask",
        "init_args": {
            "loss": {
                "class_path": "medzeroseg.losses.CEHNCLoss",
                "init_args": {"lambda_image_to_text": 0.25, "gather": True, "hard_fraction": None},
            },
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.001, "betas": [0.9, 0.99]}},
            "window_loss": None,
            "prompts": "/home/someone/prompts.yaml",
            "window_share": 0.5,
        },
    },
    "data": {"class_path": "data_modules.ROCODataModule", "init_args": {"root": "/data/roco", "batch_size": 50}},
    "trainer": {"max_epochs": 20, "precision": "bf16-mixed", "gradient_clip_val": None},
}


def test_settings_are_flat_and_name_no_place_of_the_machine() -> None:
    assert compared_settings(CONFIG) == {
        "task": "ContrastiveTask",
        "loss": "CEHNCLoss",
        "loss.lambda_image_to_text": 0.25,
        "optimizer": "AdamW",
        "optimizer.lr": 0.001,
        "window_share": 0.5,
        "batch_size": 50,
        "max_epochs": 20,
        "precision": "bf16-mixed",
    }
    assert compared_settings({}) == {}


def test_metrics_are_those_of_the_tables() -> None:
    logged = ["test/i2t_top1", "test/t2i_top1_of50", "test/localisation_auc"]
    logged += [f"test/gscorecam_crf/{name}" for name in (*TABLE2_METRICS, *TABLE3_METRICS)]
    others = ["val/i2t_top1", "train/loss", "test/i2t_top10", "test/gscorecam_crf/minutes", "test/top1_mean"]
    found = compared_metrics({key: torch.tensor(1.5) for key in [*logged, *others]})
    assert found == {key.removeprefix("test/"): 1.5 for key in logged}


def test_a_second_test_replaces_the_row(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        write_comparison(tmp_path / "hparams", {"lr": 0.1}, {"dsc": value})
    assert len(list((tmp_path / "hparams").iterdir())) == 1
    events = EventAccumulator(str(tmp_path / "hparams"))
    events.Reload()
    assert [event.value for event in events.Scalars("dsc")] == [2.0]
    # the session alone: a description of the experiment would fix the columns of all other runs, too
    assert set(events.PluginTagToContent("hparams")) == {
        "_hparams_/session_start_info",
        "_hparams_/session_end_info",
    }


@pytest.mark.parametrize("metrics", [{}, {"dsc": float("nan")}])
def test_a_row_without_figures_can_be_written(tmp_path: Path, metrics: dict[str, float]) -> None:
    write_comparison(tmp_path, {"lr": 0.1}, metrics)
    assert len(list(tmp_path.iterdir())) == 1
