"""Small real sets that need no module of their own: `FolderDataModule` reads them from a description."""

from pathlib import Path

import numpy as np
import pytest

from data_modules.folder import FolderDataModule

CHEST = """
images: "{id}.jpg"
masks: {lungs: "{id}-mask.png"}
modality: chest X-ray
splits: {test: ["1", "2"]}
"""
ORGANS = ("liver", "spleen", "kidney_left", "kidney_right", "stomach")
CT = f"""
images: "{{id}}/ct.nii.gz"
masks: {{{", ".join(f'{name}: "{{id}}/organs/{name}.nii.gz"' for name in ORGANS)}}}
modality: abdominal CT
window: transunet
splits: {{test: [totalsegmentator_ct]}}
"""


def module(root: Path, folder: Path, text: str) -> FolderDataModule:
    description = folder / "description.yaml"
    description.write_text(text)
    dm = FolderDataModule(root, description=description, cache_dir=folder, num_workers=0, image_size_px=64)
    dm.setup("test")
    return dm


def test_chest_x_rays_with_lung_masks(real_samples: Path, tmp_path: Path):
    dm = module(real_samples / "chest_xray", tmp_path, CHEST)
    assert [case.case_id for case in dm.cases("test")] == ["1", "2"]
    for item in dm.datasets["test"]:
        image, mask = item["native_image"].numpy(), item["native_mask"].numpy()
        assert image.shape == mask.shape == (512, 512)
        # two lungs, side by side and darker than the body between them
        assert mask[:, :256].any()
        assert mask[:, 256:].any()
        rows = np.flatnonzero(mask.any(axis=1))
        between = image[rows.min() : rows.max(), 236:276]
        assert image[mask == 1].mean() < between.mean()


def test_a_ct_with_a_mask_an_organ(real_samples: Path, tmp_path: Path):
    dm = module(real_samples, tmp_path, CT)
    (case,) = dm.cases("test")
    mask = case.source.read().mask
    assert mask is not None
    place = {name: np.argwhere(mask == label).mean(axis=0) for label, name in dm.label_names.items()}
    assert place["liver"][2] < mask.shape[2] / 2 < place["spleen"][2]
    assert place["kidney_right"][2] < place["kidney_left"][2]
    assert place["stomach"][1] < place["kidney_left"][1]
    assert dm.datasets["test"][0]["spacing_mm"] == pytest.approx((3.0, 3.0, 3.0))
