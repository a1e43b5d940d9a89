"""What experiments that train on masks run on: datasets in their layouts, and checkpoints of untrained teachers."""

from pathlib import Path

from tests.helpers.fake_data import write_covid_qu_ex, write_real_samples
from tests.helpers.fake_models import write_biomedclip_folder
from tests.helpers.fake_segmentation import write_acdc
from tests.helpers.fake_segmenters import write_sam_folder
from tests.helpers.fake_synapse import write_raw
from tests.helpers.fake_zero_shot import build_part, write_checkpoint


def write_mask_inputs(root: Path, project_root: Path) -> Path:
    """Write `data` and `samples`, as DATA_ROOT and REAL_SAMPLES hold them, `clip`, `sam`, and checkpoints."""
    write_acdc(root / "data" / "ACDC", training=1, testing=3)  # testing/ trains, training/ tests
    write_raw(root / "data" / "Synapse", [1, 5, 6, 7])
    write_covid_qu_ex(root / "data" / "COVID-QU-Ex", count=1, splits=("Train", "Val", "Test"))
    write_real_samples(root / "samples")
    write_sam_folder(root / "sam")
    sources = {"biomedclip": f"local-dir:{write_biomedclip_folder(root / 'clip')}", "small": None, "small_clip": None}
    for name, source in sources.items():
        write_checkpoint(root / f"{name}.ckpt", build_part(project_root, name, source))
    return root


TRAINED = {
    "phantom_cehnc": "small",
    "phantom_infonce": "small",
    "real_samples_infonce": "small_clip",
    "real_samples_cehnc": "small",
    "roco_cehnc": "biomedclip",
}


def link_checkpoints(inputs: Path, runs: Path) -> None:
    """Put the teachers where the experiments look for them."""
    for training, model in TRAINED.items():
        checkpoint = runs / training / "seed_0" / "checkpoints" / "best.ckpt"
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        if not checkpoint.exists():
            checkpoint.symlink_to(inputs / f"{model}.ckpt")
