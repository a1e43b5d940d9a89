"""What the zero-shot experiments run on: every dataset in its layout, and checkpoints of untrained models."""

import shutil
from functools import partial
from pathlib import Path

import torch
import yaml

from medzeroseg.models import DPFEM, ImageTextModel, PatchTower
from tests.helpers.fake_data import write_covid_qu_ex, write_real_samples
from tests.helpers.fake_models import write_biomedclip_folder
from tests.helpers.fake_segmentation import write_acdc
from tests.helpers.fake_segmenters import write_sam_folder
from tests.helpers.fake_synapse import write_raw

MODEL = "--model.init_args."
DATA = "--data.init_args."


def write_zero_shot_inputs(root: Path, project_root: Path) -> Path:
    """Write `data` and `samples` (an experiment's DATA_ROOT and REAL_SAMPLES), `clip`, `sam`, and checkpoints."""
    data = root / "data"
    write_acdc(data / "ACDC", training=2, testing=1)
    write_raw(data / "Synapse", [1, 2])
    write_covid_qu_ex(data / "COVID-QU-Ex", count=1, splits=("Train", "Val", "Test"))
    write_all_organs(write_real_samples(root / "samples"), project_root)
    write_sam_folder(root / "sam")
    folder = write_biomedclip_folder(root / "clip")
    small = dict.fromkeys(("small", "small_dpfem", "small_clip"))
    released = dict.fromkeys(("biomedclip", "biomedclip_dpfem"), f"local-dir:{folder}")
    for name, source in {**small, **released}.items():
        write_checkpoint(root / f"{name}.ckpt", build_part(project_root, name, source))
    return root


def build_part(project_root: Path, name: str, source: str | None = None) -> ImageTextModel:
    """The model of `experiments/parts/<name>_model.yaml`, perhaps from another source, with random weights."""
    file = project_root / "experiments" / "parts" / f"{name}_model.yaml"
    arguments = yaml.safe_load(file.read_text(encoding="utf-8"))["init_args"]
    if "patch_tower" in arguments:
        assert arguments["patch_tower"] == {"class_path": "medzeroseg.models.PatchTower"}
        arguments["patch_tower"] = PatchTower
    if "dpfem" in arguments:
        assert arguments["dpfem"]["class_path"] == "medzeroseg.models.DPFEM"
        arguments["dpfem"] = partial(DPFEM, **arguments["dpfem"]["init_args"])
    return ImageTextModel(**(arguments | ({"name": source} if source else {})))


def write_all_organs(samples: Path, project_root: Path) -> None:
    """Give the CT of `write_real_samples` the organs that it lacks, as empty masks."""
    organs = samples / "totalsegmentator_ct" / "organs"
    described = yaml.safe_load((project_root / "experiments/parts/zeroshot_samples_ct.yaml").read_text("utf-8"))
    for pattern in described["masks"].values():
        path = organs / Path(pattern).name
        if not path.exists():
            shutil.copy(organs / "esophagus.nii.gz", path)


def write_checkpoint(path: Path, model: ImageTextModel) -> None:
    """Write a model's weights as a task's checkpoint holds them, with a configuration."""
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": state, "config": {"model": {"class_path": "fake"}}}, path)


FEW = {"gscorecam": "saliency.GScoreCAM", "fixed_box": "zero_shot.CentreBox", "random_map": "zero_shot.SmoothNoise"}


def few_rows(inputs: Path) -> str:
    """The option that puts three rows in place of an experiment's."""
    methods = {
        key: {
            "class_path": "medzeroseg.zero_shot.ZeroShotMethod",
            "init_args": {"saliency": {"class_path": f"medzeroseg.{saliency}"}, "baseline": "zero_shot" in saliency},
        }
        for key, saliency in FEW.items()
    }
    path = inputs / "few.yaml"
    # another class than the experiments' file, whose `and_also` would stay
    table = {"class_path": "medzeroseg.zero_shot.MethodTable", "init_args": {"methods": methods}}
    path.write_text(yaml.safe_dump(table, sort_keys=False), encoding="utf-8")
    return f"{MODEL}methods={path}"


TRAINED = {
    "phantom_cehnc": "small",
    "phantom_dpfem": "small_dpfem",
    "phantom_infonce": "small",
    "real_samples_cehnc": "small",
    "real_samples_dpfem": "small_dpfem",
    "real_samples_infonce": "small_clip",
    "roco_cehnc": "biomedclip",
    "roco_dpfem": "biomedclip_dpfem",
}


def zero_shot_overrides(experiment: str, inputs: Path, runs: Path) -> list[str]:
    """Sizes, the folder of the runs with the checkpoints of the trainings in it, and where BiomedCLIP is.

    Everything else is found as a user's is. Each word after `--model.` makes the parser read all methods again.
    """
    for training, model in TRAINED.items():
        checkpoint = runs / training / "seed_0" / "checkpoints" / "best.ckpt"
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        if not checkpoint.exists():
            checkpoint.symlink_to(inputs / f"{model}.ckpt")
    words = [
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        f"--runs_dir={runs}",
        f"{DATA}num_workers=0",
    ]
    if experiment.startswith("phantom"):
        dataset = experiment.removeprefix("phantom_").removesuffix("_zeroshot")
        dataset = dataset.removesuffix("_infonce").removesuffix("_dpfem")
        sizes = {
            "acdc": {"training": 1, "testing": 1, "max_test_cases": 1},
            "synapse": {"volumes": 2, "slice_size_px": 64, "max_test_cases": 1},
            "covid_qu_ex": {"train": 3, "validation": 3, "test": 3, "max_test_cases": 1},
        }[dataset]
        words += [f"{DATA}phantom_workers=0", *(f"{DATA}{name}={size}" for name, size in sizes.items())]
        return [*words, f"{DATA}root={runs / 'phantom'}"]
    words.append(f"{DATA}max_test_cases=1")
    if experiment.startswith("samples"):
        return [*words, f"{DATA}cache_dir={runs / 'cache'}"]
    return [*words, f"{MODEL}model.init_args.name=local-dir:{inputs / 'clip'}"]
