import hashlib
import random
import shutil
from collections import Counter
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest

from data_modules import RealSamplesDataModule
from data_modules.case_sources import ArrayFiles, VolumePair
from data_modules.label_sources import CaseSlice, read_case
from data_modules.real_sets import SETS, find_acdc_h5, organ_name
from data_modules.screening import hold_out
from medzeroseg.imaging import ABDOMEN_WINDOW_HU, InputError
from tests.helpers.fake_data import (
    write_acdc_h5,
    write_covid_qu_ex,
    write_ct,
    write_real_samples,
    write_sunnybrook,
)


@pytest.fixture(scope="module")
def fake_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_real_samples(tmp_path_factory.mktemp("real_samples"))


def setup(root: Path, stage: str | None = None, **options: object) -> RealSamplesDataModule:
    dm = RealSamplesDataModule(root, **{"num_workers": 0, "batch_size": 4, "image_size_px": 16, **options})  # type: ignore[arg-type]
    dm.setup(stage)
    return dm


def by_set(dm: RealSamplesDataModule, split: str) -> Counter[str]:
    return Counter(case.split("/")[0] for case in dm.case_ids(split))  # type: ignore[arg-type]


def test_every_set_is_found_and_captioned(fake_root: Path):
    dm = setup(fake_root)
    # 5 patients x 2 frames x 3 outlined slices, a fifth of the patients held out; 2 test patients
    assert by_set(dm, "train")["acdc_h5"] == 24
    assert by_set(dm, "val")["acdc_h5"] == 6
    assert by_set(dm, "test")["acdc_h5"] == 12
    # 10 patients x 3: 2 test, 2 of the other 8 validate
    assert [by_set(dm, split)["sunnybrook"] for split in ("train", "val", "test")] == [18, 6, 6]
    # 4 a class: 1 of each validates; Val is the test set
    assert [by_set(dm, split)["covid_qu_ex"] for split in ("train", "val", "test")] == [9, 3, 12]
    assert [by_set(dm, split)["totalsegmentator_ct"] for split in ("train", "val", "test")] == [6, 0, 0]
    assert dm.skipped["train"] == {"slices in which nothing is outlined": 8}
    for split, dataset in dm.datasets.items():
        assert len(set(dm.case_ids(split))) == len(dataset)
        for batch in dm.test_dataloader() if split == "test" else dm.val_dataloader():
            assert batch["image"].isfinite().all()


def test_no_patient_is_in_two_splits(fake_root: Path):
    dm = setup(fake_root)
    splits = ("train", "val", "test")
    for split in splits:
        assert dm.patients[split]
        named = {case.rsplit("_frame")[0].rsplit("-IM-")[0].rsplit("_slice")[0] for case in dm.case_ids(split)}
        assert named == dm.patients[split]
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not dm.patients[one] & dm.patients[other]  # type: ignore[index]


def test_splits_and_captions_do_not_depend_on_seed_or_on_the_other_sets(fake_root: Path):
    def pairs(**options: object) -> dict[str, str]:
        dm = setup(fake_root, **options)
        return {f"{s}/{r.case_id}": r.caption for s, d in dm.datasets.items() for r in d.records}

    everything = pairs()
    assert pairs(seed=5) == everything
    alone = pairs(datasets=["sunnybrook"])
    assert alone == {case: caption for case, caption in everything.items() if "/sunnybrook/" in case}


def test_hold_out_is_a_fixed_rule():
    patients = [f"p{n}" for n in range(20)]
    held = hold_out(patients, 0.2, "some set")
    assert len(held) == 4
    assert hold_out(reversed(patients * 2), 0.2, "some set") == held
    assert hold_out(patients, 0.2, "another set") != held
    assert len(hold_out(["a", "b"], 0.2, "x")) == 1


def test_cardiac_captions_are_true(fake_root: Path):
    dm = setup(fake_root, datasets=["acdc_h5"])
    for dataset in dm.datasets.values():
        for record in dataset.records:
            source = record.source
            assert isinstance(source, CaseSlice)
            label, number = source.read_label(), int(record.case_id[-2:])
            assert ("end-diastole" in record.caption) == ("frame01" in record.case_id)
            assert ("end-systole" in record.caption) == ("frame02" in record.case_id)
            level = {1: "basal", 2: "mid-ventricular", 3: "mid-ventricular"}[number]  # of 4
            assert level in record.caption
            listed = record.caption.split(".")[0]
            assert ("right ventricle" in listed) == bool((label == 1).any())


def test_test_volumes_and_training_slices_show_the_same_pixels(tmp_path: Path):
    folder = write_acdc_h5(tmp_path, train_patients=2, test_patients=1)
    whole = ArrayFiles((folder / "data" / "patient003_frame01.h5",))
    arrays = read_case(whole)
    assert arrays.mask is not None
    single = folder / "data" / "patient003_frame01_slice_2.h5"
    with h5py.File(single, "w") as file:
        file["image"], file["label"] = arrays.image[1], arrays.mask[1]
    from_volume, from_slice = CaseSlice(whole, 1), CaseSlice(ArrayFiles((single,)))
    assert from_volume.read().tobytes() == from_slice.read().tobytes()
    assert (from_volume.read_label() == from_slice.read_label()).all()


def test_a_file_that_changed_is_read_again(tmp_path: Path):
    folder = write_acdc_h5(tmp_path, train_patients=1, test_patients=1)
    source = ArrayFiles((folder / "data" / "patient002_frame01.h5",))
    before = read_case(source)
    assert read_case(source) is before
    with h5py.File(source.paths[0], "r+") as file:
        file["image"][...] = 0
    assert not read_case(source).image.any()


def test_slices_in_their_own_folder_and_test_names_with_an_ending_are_found(tmp_path: Path):
    folder = write_acdc_h5(tmp_path)
    (folder / "data" / "slices").mkdir()
    for path in (folder / "data").glob("*_slice_*.h5"):
        path.rename(path.parent / "slices" / path.name)
    names = (folder / "test.list").read_text().split()
    (folder / "test.list").write_text("\r\n".join(f"{name}.h5" for name in names) + "\r\n\r\n")
    for split in ("train", "val", "test"):
        found = find_acdc_h5(folder, split, Counter())  # type: ignore[arg-type]
        assert sum(image.caption(random.Random(0)) is not None for image in found) in (24, 6, 12)


@pytest.mark.parametrize("doubled", [True, False])
def test_covid_folders_doubled_or_not(tmp_path: Path, doubled: bool):
    write_covid_qu_ex(tmp_path / "covid_qu_ex", doubled=doubled)
    dm = setup(tmp_path, datasets=["covid_qu_ex"])
    assert {split: len(dataset) for split, dataset in dm.datasets.items()} == {
        "train": 9,
        "val": 3,
        "test": 12,
    }
    for record in dm.datasets["test"].records:
        infected = "/COVID-19/" in record.case_id
        assert ("right lung only" in record.caption) == infected  # the fake infection is on the image's left
        assert ("lower zone" in record.caption) == infected


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR"])
def test_ct_is_shown_right_way_up_whatever_its_storage(tmp_path: Path, axes: str):
    folder = write_ct(tmp_path / "totalsegmentator_ct", axes=axes)
    picture = np.asarray(CaseSlice(VolumePair(folder / "ct.nii.gz", view="axial"), 2, ABDOMEN_WINDOW_HU).read())[
        ..., 0
    ].astype(int)
    assert picture.shape == (32, 40)
    # liver (110 HU): patient's right and front = left and upper part of the picture; left kidney (180 HU):
    # opposite
    assert picture[32 - 1 - 20, 40 - 1 - 28] == pytest.approx((110 + 160) / 400 * 255, abs=8)
    assert picture[32 - 1 - 8, 40 - 1 - 10] == pytest.approx((180 + 160) / 400 * 255, abs=8)
    captions = [image.caption(random.Random(0)) for image in SETS["totalsegmentator_ct"](folder, "train", Counter())]
    assert [("liver" in (c or ""), "left kidney" in (c or "")) for c in captions] == [
        (False, True),
        *[(True, True)] * 3,
        *[(True, False)] * 2,
    ]


def test_a_ct_mask_may_be_stored_differently_but_must_lie_on_the_scan(tmp_path: Path):
    folder = write_ct(tmp_path / "a")
    shutil.copy(write_ct(tmp_path / "b", axes="LAS") / "organs" / "liver.nii.gz", folder / "organs" / "liver.nii.gz")
    SETS["totalsegmentator_ct"](folder, "train", Counter())  # the same place in mm, stored differently: fine
    shift = np.zeros((4, 4))
    shift[2, 3] = 9  # mm
    mask = nib.load(folder / "organs" / "liver.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(mask.dataobj), mask.affine + shift), mask.get_filename())
    with pytest.raises(InputError, match=r"liver\.nii\.gz: the label map lies up to 9 mm beside its image"):
        SETS["totalsegmentator_ct"](folder, "train", Counter())


def test_damaged_or_absent_scans_and_masks_are_named(tmp_path: Path):
    folder = write_ct(tmp_path / "ct")
    path = folder / "organs" / "liver.nii.gz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"liver\.nii\.gz"):
        SETS["totalsegmentator_ct"](folder, "train", Counter())
    (folder / "ct.nii.gz").unlink()
    with pytest.raises(InputError, match=r"ct\.nii\.gz: there is no such file"):
        SETS["totalsegmentator_ct"](folder, "train", Counter())


def test_organ_names():
    assert organ_name("adrenal_gland_left") == "left adrenal gland"
    assert organ_name("portal_vein_and_splenic_vein") == "portal vein and splenic vein"


def test_dark_scans_are_stretched(fake_root: Path):
    dm = setup(fake_root, "test", datasets=["sunnybrook"])
    assert all(np.asarray(record.source.read()).max() == 255 for record in dm.datasets["test"].records)


def test_caps_per_set(fake_root: Path):
    dm = setup(fake_root, max_pairs_per_set={"acdc_h5": 5, "covid_qu_ex": 2})
    assert by_set(dm, "train") == {"acdc_h5": 5, "sunnybrook": 18, "covid_qu_ex": 2, "totalsegmentator_ct": 6}


@pytest.mark.parametrize("options", [{"datasets": ["mnist"]}, {"datasets": []}, {"max_pairs_per_set": {"x": 1}}])
def test_unknown_sets_are_named(options: dict[str, object]):
    with pytest.raises(ValueError, match="datasets"):
        RealSamplesDataModule("nowhere", **options)  # type: ignore[arg-type]


def test_missing_root_says_what_to_do(tmp_path: Path):
    with pytest.raises(InputError, match=r"no folder acdc_h5, sunnybrook.*REAL_SAMPLES.*EXP=phantom_cehnc") as caught:
        setup(tmp_path / "nothing", "fit")
    assert str(tmp_path / "nothing") in str(caught.value)


class TestFaultyAcdc:
    def test_a_patient_in_both_lists_is_refused(self, tmp_path: Path):
        folder = write_acdc_h5(tmp_path)
        with (folder / "test.list").open("a") as file:
            file.write("patient001_frame01_slice_1\n")
        with pytest.raises(InputError, match=r"patient001 in train_slices\.list and in test\.list"):
            find_acdc_h5(folder, "train", Counter())

    def test_a_name_of_another_form_and_a_missing_list_are_named(self, tmp_path: Path):
        folder = write_acdc_h5(tmp_path)
        (folder / "test.list").write_text("patient006_4d\n")
        with pytest.raises(InputError, match="patient006_4d"):
            find_acdc_h5(folder, "train", Counter())
        (folder / "test.list").unlink()
        with pytest.raises(InputError, match=r"test\.list: there is no such file"):
            find_acdc_h5(folder, "train", Counter())

    def test_a_listed_file_that_is_missing_is_named(self, tmp_path: Path):
        folder = write_acdc_h5(tmp_path)
        (folder / "data" / "patient001_frame01_slice_2.h5").unlink()
        with pytest.raises(InputError, match=r"1 listed file\(s\) are missing \(patient001_frame01_slice_2\.h5\)"):
            find_acdc_h5(folder, "train", Counter())

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda path: path.write_bytes(path.read_bytes()[:100]), "cannot be read as HDF5"),
            (lambda path: _rewrite(path, drop="label"), "no 'label' in the file; it holds image"),
            (lambda path: _rewrite(path, crop="label"), "image and label differ in shape"),
        ],
    )
    def test_a_bad_file_names_case_and_file_or_is_skipped(self, tmp_path: Path, spoil: object, message: str):
        write_acdc_h5(tmp_path / "acdc_h5")
        dm = setup(tmp_path, "fit", datasets=["acdc_h5"])
        victim = dm.datasets["train"].records[0]
        assert isinstance(victim.source, CaseSlice)
        (path,) = victim.source.source.files
        spoil(path)  # type: ignore[operator]
        with pytest.raises(InputError, match=message) as caught:
            setup(tmp_path, "fit", datasets=["acdc_h5"])
        assert str(caught.value).startswith(f"case {victim.case_id}: {path}")
        skipping = setup(tmp_path, "fit", datasets=["acdc_h5"], corrupt="skip")
        assert skipping.skipped["train"]["images with an unreadable label"] == 1
        assert skipping.case_ids("train") == dm.case_ids("train")[1:]


def _rewrite(path: Path, drop: str = "", crop: str = "") -> None:
    with h5py.File(path, "r") as file:
        arrays = {key: file[key][()] for key in file if key != drop}
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file[key] = array[:-1] if key == crop else array


def test_sunnybrook_without_epicardium_says_nothing_of_the_wall(tmp_path: Path):
    write_sunnybrook(tmp_path / "sunnybrook")
    dm = setup(tmp_path, datasets=["sunnybrook"])
    for dataset in dm.datasets.values():
        for record in dataset.records:
            outlined = record.case_id.endswith(("0048", "0088"))
            assert ("myocardi" in record.caption) == outlined
            assert "RV" not in record.caption
            assert "right ventric" not in record.caption


def test_images_without_a_label_are_counted(tmp_path: Path):
    folder = write_sunnybrook(tmp_path / "sunnybrook")
    covid = write_covid_qu_ex(tmp_path / "covid_qu_ex")
    before = setup(tmp_path, datasets=["sunnybrook", "covid_qu_ex"])
    name = before.case_ids("train")[0].split("/")[1]
    (folder / "i_labels" / f"{name}.dcm.png").unlink()
    next(covid.rglob("Val/Normal/lung masks/*.png")).unlink()
    after = setup(tmp_path, datasets=["sunnybrook", "covid_qu_ex"])
    assert after.skipped["train"] == {"images without a label": 1}
    assert after.skipped["test"] == {"images without a mask": 1}


def test_a_damaged_mask_names_file_and_case(tmp_path: Path):
    folder = write_covid_qu_ex(tmp_path / "covid_qu_ex")
    path = next(folder.rglob("Val/COVID-19/infection masks/*.png"))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match=r"^case covid_qu_ex/Val/COVID-19/covid_\d+: .*infection masks.*damaged"):
        setup(tmp_path, "test", datasets=["covid_qu_ex"])


@pytest.fixture(scope="module")
def real(real_samples: Path) -> RealSamplesDataModule:
    return setup(real_samples)


class TestRealPixels:
    def test_counts_and_splits(self, real: RealSamplesDataModule):
        assert by_set(real, "test") == {"covid_qu_ex": 250, "acdc_h5": 205, "sunnybrook": 102}
        assert by_set(real, "train")["covid_qu_ex"] + by_set(real, "val")["covid_qu_ex"] == 700
        patients = {s: Counter(p.split("/")[0] for p in real.patients[s]) for s in ("train", "val", "test")}  # type: ignore[index]
        assert [patients[s]["acdc_h5"] for s in ("train", "val", "test")] == [24, 6, 10]
        assert sum(patients[s]["sunnybrook"] for s in patients) == 29
        for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
            assert not real.patients[one] & real.patients[other]  # type: ignore[index]

    @pytest.mark.parametrize(
        ("split", "digest"),
        [
            ("train", "84a2f794c9baf246d20d75fe19a5fbe1"),
            ("val", "fafd12d7cc5eca9de2f5902065e560b5"),
            ("test", "88626bb2b0cb26e76a9b1ba5d7b8a8fa"),
        ],
    )
    def test_pairs_are_those_of_the_published_runs(self, real: RealSamplesDataModule, split: str, digest: str):
        """Names, order and captions are fixed: another set of pairs would make results incomparable unnoticed."""
        found = hashlib.blake2b(digest_size=16)
        for record in real.datasets[split].records:  # type: ignore[index]
            found.update(f"{record.case_id}\t{record.caption}\n".encode())
        assert found.hexdigest() == digest

    def test_captions_tell_pairs_apart(self, real: RealSamplesDataModule):
        for dataset in real.datasets.values():
            assert len(set(dataset.text_ids)) > 0.97 * len(dataset)

    def test_facts_of_the_readme_hold(self, real: RealSamplesDataModule):
        """The RV lies left of the LV; the base comes first; the ED cavity is larger than the ES cavity."""
        cavity: Counter[str] = Counter()
        left_of = total = 0
        for split in ("train", "val", "test"):
            for record in real.datasets[split].records:  # type: ignore[index]
                if not record.case_id.startswith("acdc_h5/"):
                    continue
                assert isinstance(record.source, CaseSlice)
                label = record.source.read_label()
                cavity[record.case_id.rsplit("_slice")[0]] += int((label == 3).sum())
                if (label == 1).any() and (label == 3).any():
                    total += 1
                    left_of += np.nonzero(label == 1)[1].mean() < np.nonzero(label == 3)[1].mean()
                    assert ("to the left of" in record.caption) or ("above" in record.caption)
        assert left_of / total > 0.99
        pairs = [name for name in cavity if name.endswith("frame01")]
        assert all(cavity[name] > cavity[name.replace("frame01", "frame02")] for name in pairs)

    def test_pictures_are_neither_black_nor_flat(self, real: RealSamplesDataModule):
        for split in ("train", "test"):
            for record in real.datasets[split].records[::40]:  # type: ignore[index]
                assert np.asarray(record.source.read()).std() > 15
