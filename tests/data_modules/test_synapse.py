import gzip
import shutil
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest

from data_modules import SynapseDataModule
from data_modules.cases import SegmentationCase
from data_modules.synapse import CASES, TRANSUNET_TEST_CASES, SynapseCase
from data_modules.synapse_labels import (
    CONVENTIONS,
    LABEL_NAMES,
    STORED_AXES,
    axes_fault,
    convention_fault,
    count_voxels,
    lookup_table,
    turn_to_display,
)
from medzeroseg.imaging import InputError
from tests.helpers.btcv_from_organs import write_btcv
from tests.helpers.fake_synapse import SHAPE, abdomen, write_preprocessed, write_raw

TRAIN, TEST = [5, 6, 7, 9], [1, 2]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_raw(tmp_path_factory.mktemp("raw"), [*TRAIN, *TEST])


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_preprocessed(tmp_path_factory.mktemp("ready"), train=TRAIN, test=TEST)


def module(root: Path, cache: Path, **options: object) -> SynapseDataModule:
    return SynapseDataModule(
        root, **{"num_workers": 0, "batch_size": 4, "image_size_px": 32, "cache_dir": cache, **options}
    )  # type: ignore[arg-type]


def index(root: Path, part: str, /, **options: object) -> list[SegmentationCase]:
    return module(root, root, **options).index_split(part).cases  # type: ignore[arg-type]


class TestLabels:
    def test_the_splits_are_the_published_ones(self):
        assert len(CASES) == 30
        assert len(TRANSUNET_TEST_CASES) == 12
        assert TRANSUNET_TEST_CASES < CASES

    def test_the_tables_are_those_of_the_peers_scripts(self):
        """Dictionaries as the preprocessing scripts of TransUNet's and SAMed's users state them."""
        transunet = {1: 7, 2: 4, 3: 3, 4: 2, 5: 0, 6: 5, 7: 8, 8: 1, 9: 0, 10: 0, 11: 6, 12: 0, 13: 0}
        samed = {1: 1, 2: 2, 3: 3, 4: 4, 5: 0, 6: 5, 7: 6, 8: 7, 9: 0, 10: 0, 11: 8, 12: 0, 13: 0}
        for convention, expected in (("transunet8", transunet), ("samed8", samed)):
            table = lookup_table("btcv13", convention)  # type: ignore[arg-type]
            assert {i: int(table[i]) for i in range(1, 14)} == expected

    def test_there_and_back_is_the_same(self):
        label = np.arange(9, dtype=np.uint8)
        there = lookup_table("transunet8", "samed8")[label]
        assert sorted(there) == list(range(9))
        assert (lookup_table("samed8", "transunet8")[there] == label).all()

    def test_organs_that_are_not_outlined_are_refused(self):
        with pytest.raises(ValueError, match=r"btcv13 has esophagus, .*which samed8 does not outline"):
            lookup_table("samed8", "btcv13")

    @pytest.mark.parametrize("stored", CONVENTIONS)
    @pytest.mark.parametrize("read_as", CONVENTIONS)
    def test_every_wrong_convention_is_noticed_and_the_right_one_named(self, stored: str, read_as: str):
        _, label = abdomen(4)
        counts = count_voxels(lookup_table("btcv13", stored)[label])  # type: ignore[arg-type]
        fault = convention_fault(counts, read_as)  # type: ignore[arg-type]
        if stored == read_as:
            assert fault is None
        else:
            assert fault is not None
            assert f"labels={stored}" in fault

    def test_one_unusual_size_is_no_fault_and_neither_is_an_empty_volume(self):
        _, label = abdomen(4)
        counts = count_voxels(label)
        counts[4] = counts[2] + 30  # a swollen gallbladder
        assert convention_fault(counts, "btcv13") is None
        assert convention_fault(count_voxels(np.zeros((2, 3, 3), np.uint8)), "btcv13") is None

    @pytest.mark.parametrize("axes", STORED_AXES)
    def test_axes_are_undone_and_wrong_ones_named(self, axes: str):
        _, label = abdomen(4)
        marked = np.arange(np.prod(SHAPE)).reshape(SHAPE)
        stored = marked
        if "A" in axes:
            stored = stored[:, ::-1]
        if "R" in axes:
            stored = stored[:, :, ::-1]
        if axes[0] in "LR":
            stored = stored.swapaxes(1, 2)
        assert (turn_to_display(stored, axes) == marked).all()  # type: ignore[arg-type]
        assert axes_fault(label, "btcv13", axes) is None  # type: ignore[arg-type]
        if axes != "PL":  # the same volume, stored as `axes`, but read as if it were upright
            turned = label[:, ::-1] if "A" in axes else label
            turned = turned[:, :, ::-1] if "R" in axes else turned
            turned = turned.swapaxes(1, 2) if axes[0] in "LR" else turned
            fault = axes_fault(turned, "btcv13", "PL")
            assert fault is not None
            # organs on a diagonal may leave two ways
            assert f"stored_axes={axes}" in fault.partition("try ")[2]


class TestRaw:
    def test_splits_names_and_batches(self, raw: Path, tmp_path: Path):
        dm = module(raw, tmp_path)
        dm.setup(None)
        ids = {split: {case.case_id for case in dm.cases(split)} for split in ("train", "val", "test")}  # type: ignore[arg-type]
        assert ids["test"] == {"case0001", "case0002"}
        assert ids["train"] | ids["val"] == {f"case{n:04d}" for n in TRAIN}
        assert not ids["train"] & ids["val"]
        assert dm.skipped["test"]["listed cases that are not there"] == 10
        assert dm.label_names[5] == "liver"
        for batch in (*dm.train_dataloader(), *dm.test_dataloader()):
            assert batch["image"].min() >= 0
            assert batch["image"].max() <= 1
            assert batch["spacing_mm"].tolist() == [[3.0, pytest.approx(0.7), pytest.approx(0.8)]] * 4
            assert set(batch["mask"].unique().tolist()) <= set(range(9))

    @pytest.mark.parametrize("organs", CONVENTIONS)
    def test_pixels_are_the_drawn_ones_in_every_convention(self, raw: Path, organs: str):
        image, label = abdomen(1)
        arrays = index(raw, "test", organs=organs)[0].source.read()
        assert arrays.mask is not None
        np.testing.assert_array_equal(arrays.image, image.astype(np.int16))
        np.testing.assert_array_equal(arrays.mask, lookup_table("btcv13", organs)[label])  # type: ignore[arg-type]

    @pytest.mark.parametrize("top", ["Training", "RawData/Training", "Abdomen/RawData/Training"])
    def test_unzipped_copies_of_several_depths_are_found(self, tmp_path: Path, top: str):
        write_raw(tmp_path / top, [1])
        assert [case.case_id for case in index(tmp_path, "test")] == ["case0001"]

    def test_publication_tests_on_all_and_trains_on_none(self, raw: Path):
        assert len(index(raw, "test", split="publication")) == 6
        with pytest.raises(InputError, match="no train split; train with split=transunet"):
            index(raw, "train", split="publication")

    def test_a_scan_without_label_is_kept_for_prediction_only(self, tmp_path: Path):
        write_raw(tmp_path, [1, 2, 3])
        (tmp_path / "label" / "label0002.nii.gz").unlink()
        (tmp_path / "img" / "img0003.nii.gz").unlink()
        found = module(tmp_path, tmp_path).index_split("test")
        assert [case.source.has_reference for case in found.cases] == [True, False]
        assert found.skipped["label maps without a scan"] == 1
        with pytest.raises(InputError, match=r"have no reference \(case0002\)"):
            module(tmp_path, tmp_path / "cache").setup("test")

    def test_cases_of_no_list_are_counted(self, tmp_path: Path):
        write_raw(tmp_path, [1, 15])
        assert module(tmp_path, tmp_path).index_split("test").skipped["cases that no split lists"] == 1


class TestPreprocessed:
    @pytest.mark.parametrize("axes", ["PL", "AL", "LA"])
    @pytest.mark.parametrize("convention", ["transunet8", "samed8"])
    def test_both_folders_give_what_the_raw_form_gives(self, tmp_path: Path, convention: str, axes: str):
        write_preprocessed(tmp_path, train=TRAIN, test=TEST, convention=convention, axes=axes)  # type: ignore[arg-type]
        options = {"labels": convention, "stored_axes": axes}
        for split, numbers in (("test", TEST), ("train", TRAIN)):
            for case in index(tmp_path, split, **options):
                number = int(case.case_id[-4:])
                assert number in numbers
                image, label = abdomen(number)
                arrays = case.source.read()
                assert arrays.mask is not None
                assert arrays.spacing_mm is None
                np.testing.assert_allclose(arrays.image, np.clip(image, -125, 275), atol=0.01)
                np.testing.assert_array_equal(arrays.mask, lookup_table("btcv13", "transunet8")[label])

    def test_slices_go_by_number_and_gaps_are_counted(self, tmp_path: Path):
        write_preprocessed(tmp_path, train=[5], test=[1], lists=False)
        folder = tmp_path / "train_npz"
        (folder / "case0005_slice002.npz").unlink()
        for old, new in ((5, 1000), (4, 999)):
            (folder / f"case0005_slice{old:03d}.npz").rename(folder / f"case0005_slice{new}.npz")
        found = module(tmp_path, tmp_path).index_split("train" if index(tmp_path, "train") else "val")
        (case,) = found.cases
        assert [int(path.stem.split("slice")[1]) for path in case.source.files] == [0, 1, 3, 999, 1000]
        assert found.skipped["slices missing inside a volume"] == 1000 - 4

    def test_the_list_says_what_is_used(self, tmp_path: Path):
        write_preprocessed(tmp_path, train=TRAIN, test=TEST)
        listed = tmp_path / "lists_Synapse" / "train.txt"
        names = [name for name in listed.read_text().split() if not name.startswith("case0006")]
        listed.write_text("\n".join(f"{name}.npz" for name in names) + "\n\n")
        found = module(tmp_path, tmp_path).index_split("train")
        assert "case0006" not in {case.case_id for case in found.cases}
        assert found.skipped["files not in train.txt"] == SHAPE[0]
        (tmp_path / "train_npz" / f"{names[0]}.npz").unlink()
        with pytest.raises(InputError, match=rf"train\.txt: names 1 of 18 that are not in .*\({names[0]}\)"):
            module(tmp_path, tmp_path).index_split("train")

    def test_the_wrong_convention_stops_with_the_right_one_named(self, ready: Path, tmp_path: Path):
        with pytest.raises(InputError, match=r"case000[12].*try labels=transunet8.*check_labels=false"):
            module(ready, tmp_path, labels="samed8").setup("test")
        module(ready, tmp_path, labels="samed8", check_labels=False).setup("test")

    def test_wrong_axes_stop_with_the_right_ones_named(self, ready: Path, tmp_path: Path):
        with pytest.raises(InputError, match="try stored_axes=PL"):
            module(ready, tmp_path, stored_axes="AR").setup("test")

    def test_thirteen_organs_are_not_to_be_had(self, ready: Path):
        with pytest.raises(InputError, match="is labelled in transunet8: organs: btcv13 has esophagus"):
            index(ready, "test", organs="btcv13")

    def test_a_case_in_both_folders_is_refused(self, tmp_path: Path):
        write_preprocessed(tmp_path, train=[5], test=[1], lists=False)
        for path in (tmp_path / "train_npz").iterdir():
            shutil.copy(path, path.with_name(path.name.replace("0005", "0001")))
        with pytest.raises(InputError, match="case 0001 is stored twice"):
            index(tmp_path, "test")


class TestBadInput:
    def test_missing_root_and_empty_root_say_how_to_get_it(self, tmp_path: Path):
        for root in (tmp_path / "nowhere", tmp_path):
            with pytest.raises(InputError, match=r"syn3193805.*EXP=phantom_cehnc"):
                index(root, "test")

    def test_both_forms_under_one_root(self, tmp_path: Path):
        write_raw(tmp_path, [1])
        write_preprocessed(tmp_path, train=[5], test=[1])
        with pytest.raises(InputError, match="name one as root"):
            index(tmp_path, "test")

    def test_two_files_of_one_number(self, tmp_path: Path):
        write_raw(tmp_path, [1])
        path = tmp_path / "img" / "img0001.nii.gz"
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        with pytest.raises(InputError, match=r"img0001\.nii and img0001\.nii\.gz are one case"):
            index(tmp_path, "test")

    def test_empty_split(self, tmp_path: Path):
        write_raw(tmp_path, [5])
        with pytest.raises(InputError, match="no usable case in the test split"):
            module(tmp_path, tmp_path / "cache").setup("test")

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda raw: _rewrite_label(raw, lambda a: a[:-1]), "the label map has shape"),
            (lambda raw: _rewrite_label(raw, lambda a: a * np.uint8(2)), r"holds 14, 16, .*btcv13 has the ids 1 to 13"),
            (lambda raw: _truncate(raw / "label" / "label0001.nii.gz"), r"label0001\.nii\.gz"),
            (lambda raw: _truncate(raw / "img" / "img0001.nii.gz"), r"img0001\.nii\.gz"),
        ],
    )
    def test_a_bad_volume_is_named_or_skipped(self, tmp_path: Path, spoil: object, message: str):
        write_raw(tmp_path, [1, 2])
        spoil(tmp_path)  # type: ignore[operator]
        with pytest.raises(InputError, match=message) as caught:
            module(tmp_path, tmp_path / "cache").setup("test")
        assert str(caught.value).startswith("case case0001: ")
        dm = module(tmp_path, tmp_path / "cache", corrupt="skip")
        dm.setup("test")
        assert [case.case_id for case in dm.cases("test")] == ["case0002"]

    @pytest.mark.parametrize("kind", ["truncated", "pickle", "key", "not a slice"])
    def test_a_bad_slice_is_named(self, tmp_path: Path, kind: str):
        write_preprocessed(tmp_path, train=[5], test=[1], lists=False)
        path = tmp_path / "train_npz" / "case0005_slice003.npz"
        image = np.zeros((4, 4), np.float32)
        match kind:
            case "truncated":
                _truncate(path)
            case "pickle":
                np.savez(path, image=np.array([{"a": 1}], dtype=object), label=image)
            case "key":
                np.savez(path, image=image)
            case _:
                np.savez(path, image=image[0], label=image[0])
        (one,) = index(tmp_path, "train") or index(tmp_path, "val")
        with pytest.raises(InputError, match=r"case0005_slice003\.npz"):
            one.source.read()

    def test_a_truncated_h5_volume_is_named(self, tmp_path: Path):
        write_preprocessed(tmp_path, train=[5], test=[1])
        _truncate(tmp_path / "test_vol_h5" / "case0001.npy.h5")
        with pytest.raises(InputError, match=r"case0001\.npy\.h5: cannot be read as HDF5"):
            index(tmp_path, "test")[0].source.read()

    def test_label_of_another_shape_in_h5(self, tmp_path: Path):
        write_preprocessed(tmp_path, train=[5], test=[1])
        with h5py.File(tmp_path / "test_vol_h5" / "case0001.npy.h5", "r+") as file:
            label = file["label"][:-1]
            del file["label"]
            file["label"] = label
        with pytest.raises(InputError, match="differ in shape"):
            index(tmp_path, "test")[0].source.read()

    @pytest.mark.parametrize(
        "options",
        [
            {"split": "official"},
            {"labels": "btcv"},
            {"organs": "all"},
            {"stored_axes": "SP"},
            {"validation_share": 1.0},
            {"labels": "samed8", "organs": "btcv13"},
        ],
    )
    def test_unknown_arguments_are_named(self, options: dict[str, object]):
        with pytest.raises(ValueError, match=next(reversed(options))):
            SynapseDataModule("nowhere", **options)  # type: ignore[arg-type]


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _rewrite_label(raw: Path, change: object) -> None:
    path = raw / "label" / "label0001.nii.gz"
    stored = nib.load(path)
    array = change(np.asarray(stored.dataobj))  # type: ignore[operator]
    nib.save(nib.Nifti1Image(array, stored.affine), path)


@pytest.fixture(scope="module")
def real(real_samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_btcv(real_samples / "totalsegmentator_ct", tmp_path_factory.mktemp("btcv"))


class TestRealScan:
    """One real scan with machine-made organ masks, laid out as BTCV."""

    def test_it_reads_right_way_round(self, real: Path):
        (case,) = index(real, "test", organs="btcv13")
        assert isinstance(case.source, SynapseCase)
        arrays = case.source.read()
        assert arrays.mask is not None
        assert arrays.image.shape == arrays.mask.shape == (30, 101, 122)
        assert arrays.spacing_mm == pytest.approx((3.0, 3.0, 3.0))
        ids = {name: label for label, name in LABEL_NAMES["btcv13"].items()}
        place = {name: np.argwhere(arrays.mask == i).mean(axis=0) for name, i in ids.items() if name != "esophagus"}
        assert not (arrays.mask == ids["esophagus"]).any()
        # the liver on the left of the picture, the spleen on the right; kidneys behind the stomach; spine at the back
        assert place["liver"][2] < 61 < place["spleen"][2]
        assert place["right kidney"][2] < place["left kidney"][2]
        assert place["left kidney"][1] > place["stomach"][1]
        bone = np.argwhere(arrays.image[:, :, 50:72] > 300)
        assert bone[:, 1].mean() > 55

    def test_the_self_check_holds_and_notices(self, real: Path):
        label = index(real, "test", organs="btcv13")[0].source.read().mask
        assert label is not None
        for stored in CONVENTIONS:
            ids = lookup_table("btcv13", stored)[label]
            for read_as in CONVENTIONS:
                fault = convention_fault(count_voxels(ids), read_as)
                assert (fault is None) == (stored == read_as), (stored, read_as, fault)
        assert axes_fault(label, "btcv13", "PL") is None
        assert axes_fault(label[:, ::-1], "btcv13", "PL") is not None
        assert axes_fault(label[:, :, ::-1], "btcv13", "PL") is not None
        assert axes_fault(label.swapaxes(1, 2), "btcv13", "PL") is not None
