"""What the notebooks share: the project's root, and a trained model to look with."""

import os
from pathlib import Path

from medzeroseg.main import main

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("DATA_ROOT", "data")) / "notebooks"


def at_root() -> None:
    """Work in the project's root, where experiments and runs are, wherever the notebook was opened."""
    os.chdir(ROOT)


def phantom(small: bool) -> list[str]:
    """Overrides of an experiment on the phantom of captions: a small one of the notebooks' own."""
    sizes = {"train": 40, "validation": 20, "test": 24} if small else {"train": 400, "validation": 60, "test": 200}
    folder = DATA / f"phantom_{sizes['train']}"
    return [f"--data.init_args.root={folder}", *(f"--data.init_args.{name}={count}" for name, count in sizes.items())]


def runs(small: bool) -> Path:
    """Folder of the notebooks' own runs; those of small sizes lie apart."""
    folder = Path(os.environ.get("NOTEBOOK_RUNS", "runs/notebooks"))
    return folder / "small" if small else folder


def quiet(small: bool) -> list[str]:
    """Overrides that keep a notebook's output short, and its runs apart from others."""
    return [
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--trainer.log_every_n_steps=1",
        f"--runs_dir={runs(small)}",
    ]


def trained_model(small: bool) -> Path:
    """Checkpoint of the phantom's model; says which.

    That of `make train EXP=phantom_cehnc` where it has been trained. Else one is trained here on a tenth of the
    pairs, in about a minute: enough to see how things work, not how well.
    """
    best = Path("runs/phantom_cehnc/seed_0/checkpoints/best.ckpt")
    if best.is_file() and not small:
        print(f"The model of `make train EXP=phantom_cehnc`: {best}")
        return best
    # trained once, for all notebooks
    tiny = runs(small) / "phantom_cehnc" / "seed_0" / "checkpoints" / "best.ckpt"
    if not tiny.is_file():
        length = ["--trainer.max_epochs=2", "--trainer.limit_train_batches=2"] if small else []
        if main(["train", "phantom_cehnc", "--", *phantom(small), *quiet(small), *length]) != 0:
            raise RuntimeError("the training failed; see above")
    print(f"A model trained in a minute on few pairs: {tiny}. `make train EXP=phantom_cehnc` makes a better one.")
    return tiny
