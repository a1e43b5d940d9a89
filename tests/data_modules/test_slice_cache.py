import errno
import json
import multiprocessing
import os
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from data_modules import slice_cache, slice_cache_entry, slice_cache_key
from data_modules.case_sources import ArrayFiles
from data_modules.cases import CaseArrays, CaseSource
from data_modules.slice_cache import SliceCache, default_cache_folder
from data_modules.slice_cache_entry import compact
from data_modules.slice_cache_key import recipe
from medzeroseg.imaging import FixedWindow, InputError, PercentileWindow
from tests.helpers.fake_segmentation import make_case, write_case


@dataclass(frozen=True)
class Counted:
    """Counts how often it is decoded."""

    inner: CaseSource
    log: str

    @property
    def files(self) -> tuple[Path, ...]:
        return self.inner.files

    @property
    def has_reference(self) -> bool:
        return self.inner.has_reference

    def read(self) -> CaseArrays:
        with Path(self.log).open("a") as stream:
            stream.write("read\n")
        return self.inner.read()


@dataclass(frozen=True, slots=True)
class Relabelled:
    """Another source in another label convention, as `SynapseDataModule` has one."""

    inner: CaseSource
    table: tuple[int, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return self.inner.files

    @property
    def has_reference(self) -> bool:
        return self.inner.has_reference

    def read(self) -> CaseArrays:
        arrays = self.inner.read()
        assert arrays.mask is not None
        return CaseArrays(arrays.image, np.asarray(self.table, np.uint8)[arrays.mask], arrays.spacing_mm)


@pytest.fixture
def source(tmp_path: Path) -> Counted:
    path = write_case(tmp_path, "test", "a")
    make_old(path)
    return Counted(ArrayFiles((path,)), str(tmp_path / "log"))


def make_old(path: Path, seconds: float = 100) -> None:
    """Set a file's time back; the time of change of its inode cannot be, so tests that need it old patch the rule."""
    then = time.time() - seconds
    os.utime(path, (then, then))


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let stamps of files that were just written count."""
    monkeypatch.setattr(slice_cache_key, "_SAFE_AGE_NS", 0)


def reads(source: Counted) -> int:
    log = Path(source.log)
    return len(log.read_text().split()) if log.exists() else 0


def entries(cache: SliceCache) -> list[Path]:
    return sorted((cache.folder / "entries").iterdir())


def test_an_entry_holds_what_the_source_gives(tmp_path: Path, source: Counted):
    case = SliceCache(tmp_path / "cache").open(source)
    truth = source.inner.read()
    image, mask = case.arrays()
    assert np.array_equal(image, truth.image)
    assert np.array_equal(mask, truth.mask)
    assert isinstance(image, np.memmap)
    assert not image.flags.writeable
    assert case.shape == (3, 6, 5)
    assert case.spacing_mm is None
    assert case.voxels_of_label == {1: 2 * 3 * 5}
    assert case.labelled_slices == (True, True, False)
    for window in (PercentileWindow(0.5, 99.5), PercentileWindow(3, 96), FixedWindow(2, 9)):
        fixed = case.fixed(window)
        assert (fixed.low, fixed.high) == pytest.approx(window.bounds(truth.image))


def test_a_case_is_decoded_once(tmp_path: Path, source: Counted):
    for _ in range(3):
        SliceCache(tmp_path / "cache").open(source)
    assert reads(source) == 1
    assert len(entries(SliceCache(tmp_path / "cache"))) == 1


def test_unchanged_files_are_not_hashed_again(
    tmp_path: Path, source: Counted, trusting: None, monkeypatch: pytest.MonkeyPatch
):
    SliceCache(tmp_path / "cache").open(source)

    def never(path: Path) -> str:
        raise AssertionError(f"{path} was hashed")

    monkeypatch.setattr(slice_cache_key, "digest_of_file", never)
    SliceCache(tmp_path / "cache").open(source)


def test_files_just_written_are_hashed_again(tmp_path: Path, source: Counted):
    """Within the clock's step a file can change without another time: its stamp is not trusted."""
    cache = SliceCache(tmp_path / "cache")
    cache.open(source)
    assert not (tmp_path / "cache" / "stamps").exists()


def test_a_changed_source_is_read_again(tmp_path: Path, source: Counted, trusting: None):
    cache = SliceCache(tmp_path / "cache")
    before = cache.open(source)
    write_case(tmp_path, "test", "a", seed=1)
    after = cache.open(source)
    assert reads(source) == 2
    assert after.folder != before.folder
    assert np.array_equal(after.arrays()[0], source.inner.read().image)


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path: Path, source: Counted, trusting: None):
    """As `cp -p` or a restored archive would make it."""
    cache = SliceCache(tmp_path / "cache")
    first = cache.open(source)
    path = source.files[0]
    status = path.stat()
    other = write_case(tmp_path, "other", "a", seed=2)
    assert other.stat().st_size == status.st_size
    path.write_bytes(other.read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert cache.open(source).folder != first.folder


def test_a_moved_dataset_keeps_its_entries(tmp_path: Path, source: Counted):
    cache = SliceCache(tmp_path / "cache")
    first = cache.open(source)
    shutil.move(tmp_path / "test", tmp_path / "moved")
    moved = Counted(ArrayFiles((tmp_path / "moved" / "a.npz",)), source.log)
    assert cache.open(moved).folder == first.folder
    assert reads(source) == 1


def test_another_way_of_reading_is_another_entry(tmp_path: Path, source: Counted, monkeypatch: pytest.MonkeyPatch):
    cache = SliceCache(tmp_path / "cache")
    first = cache.open(source.inner)
    second = cache.open(Relabelled(source.inner, (0, 7, 2, 3)))
    assert first.voxels_of_label == {1: 30}
    assert second.voxels_of_label == {7: 30}
    assert first.folder != second.folder
    monkeypatch.setattr(slice_cache, "PREPROCESSING_VERSION", 99)
    assert cache.open(source.inner).folder != first.folder


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone", "meta", "no meta", "emptied"])
def test_damaged_entries_are_rebuilt(tmp_path: Path, source: Counted, damage: str):
    cache = SliceCache(tmp_path / "cache")
    folder = cache.open(source).folder
    image, meta = folder / "image.npy", folder / "meta.json"
    content = bytearray(image.read_bytes())
    if damage == "truncated":
        image.write_bytes(content[:-7])
    elif damage == "flipped":
        content[-3] ^= 0xFF
        image.write_bytes(content)
        make_old(image)
    elif damage == "gone":
        image.unlink()
    elif damage == "meta":
        meta.write_text(meta.read_text()[:40])
    elif damage == "no meta":
        meta.unlink()
    else:
        values = json.loads(meta.read_text())
        meta.write_text(json.dumps({**values, "labelled_slices": []}))
    case = cache.open(source)
    truth = source.inner.read()
    assert reads(source) == 2
    assert np.array_equal(case.arrays()[0], truth.image)
    assert np.array_equal(case.arrays()[1], truth.mask)
    assert entries(cache) == [folder]


def test_a_copied_cache_is_checked_and_used(tmp_path: Path, source: Counted):
    cache = SliceCache(tmp_path / "cache")
    folder = cache.open(source).folder
    for name in ("image.npy", "mask.npy"):
        make_old(folder / name, 5000)
    cache.open(source)
    assert reads(source) == 1


def open_in_process(folder: Path, source: Counted, start: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    case = SliceCache(folder).open(source)
    truth = source.inner.read()
    assert np.array_equal(case.arrays()[0], truth.image)


def test_processes_at_once_leave_one_whole_entry(tmp_path: Path, source: Counted):
    context = multiprocessing.get_context("fork")
    start = context.Barrier(4)
    processes = [context.Process(target=open_in_process, args=(tmp_path / "cache", source, start)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(entries(SliceCache(tmp_path / "cache"))) == 1


def test_threads_at_once_mend_a_damaged_entry(tmp_path: Path, source: Counted):
    cache = SliceCache(tmp_path / "cache")
    folder = cache.open(source).folder
    (folder / "image.npy").write_bytes(b"")
    failures: list[BaseException] = []

    def mend() -> None:
        try:
            for _ in range(5):
                assert cache.open(source).arrays()[0].shape == (3, 6, 5)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=mend) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert entries(cache) == [folder]


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(
    tmp_path: Path, source: Counted, monkeypatch: pytest.MonkeyPatch
):
    def full(path: Path, array: np.ndarray) -> None:
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(slice_cache_entry, "_save", full)
    with pytest.raises(InputError, match=r"cache: cannot write a decoded case of 0\.0 MB.*No space left.*cache_dir"):
        SliceCache(tmp_path / "cache").open(source)
    assert entries(SliceCache(tmp_path / "cache")) == []


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path, source: Counted):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another folder with cache_dir"):
        SliceCache(tmp_path / "file" / "cache").open(source)


def test_a_source_that_changes_while_it_is_read_is_refused(tmp_path: Path):
    path = write_case(tmp_path, "test", "a")

    @dataclass(frozen=True)
    class Growing(Counted):
        def read(self) -> CaseArrays:
            arrays = self.inner.read()
            write_case(tmp_path, "test", "a", slices=9)
            return arrays

    with pytest.raises(InputError, match=r"a\.npz: the file changes while it is read"):
        SliceCache(tmp_path / "cache").open(Growing(ArrayFiles((path,)), ""))


def test_a_missing_source_names_the_file(tmp_path: Path):
    with pytest.raises(InputError, match=r"gone\.npz: there is no such file"):
        SliceCache(tmp_path / "cache").open(ArrayFiles((tmp_path / "gone.npz",)))


def test_many_are_opened_in_order(tmp_path: Path):
    cases = [make_case(write_case(tmp_path, "test", f"p{n:02d}", slices=2 + n % 3)) for n in range(12)]
    cache = SliceCache(tmp_path / "cache")
    opened = cache.open_all(cases, lambda case: (case.case_id, cache.open(case.source).shape[0]), "Test")
    assert opened == [(f"p{n:02d}", 2 + n % 3) for n in range(12)]
    assert cache.open_all([], lambda case: case, "Test") == []


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array([0, 255], np.uint8), np.uint8),
        (np.array([-1024, 3000], np.int16), np.int16),
        (np.array([-1024, 3000], np.int32), np.int16),
        (np.array([-1024.0, 3000.0], np.float64), np.int16),
        (np.array([0, 60_000], np.int64), np.uint16),
        (np.array([0, 70_000], np.int64), np.float32),
        (np.array([0.25, 1.0], np.float64), np.float32),
        (np.array([np.nan, 1.0], np.float32), np.float32),
        (np.array([False, True]), np.uint8),
    ],
)
def test_images_are_stored_small_and_exact(values: np.ndarray, kind: type):
    stored = compact(values)
    assert stored.dtype == kind
    assert np.array_equal(stored.astype(np.float64), values.astype(np.float64), equal_nan=True)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.float32])
@pytest.mark.parametrize("size", [1, 2, 7, 400])
def test_percentiles_are_numpys(tmp_path: Path, kind: type, size: int):
    rng = np.random.default_rng(size)
    image = (rng.normal(100, 40, (3, size, 5)) if kind is not np.int16 else rng.normal(-300, 900, (3, size, 5))).astype(
        kind
    )
    np.savez(tmp_path / "a.npz", image=image)
    case = SliceCache(tmp_path / "cache").open(ArrayFiles((tmp_path / "a.npz",), label_key=None))
    expected = np.percentile(image, list(case.percentiles))
    assert list(case.percentiles.values()) == pytest.approx(expected.tolist(), rel=1e-6)
    assert case.arrays()[0].dtype == kind


def test_a_recipe_tells_settings_not_places(tmp_path: Path):
    first, second = ArrayFiles((tmp_path / "a.h5",)), ArrayFiles((tmp_path / "sub" / "b.h5",))
    assert recipe(first) == recipe(second)
    assert recipe(ArrayFiles((tmp_path / "a.h5",), label_key=None)) != recipe(first)
    assert recipe(Relabelled(first, (0, 2, 1))) != recipe(Relabelled(first, (0, 1, 2)))
    assert str(tmp_path) not in recipe(first)


def test_a_source_of_odd_things_is_refused(tmp_path: Path):
    @dataclass(frozen=True)
    class Odd(Counted):
        function: object = print

    with pytest.raises(TypeError, match="Odd holds a builtin_function_or_method"):
        recipe(Odd(ArrayFiles((tmp_path / "a",)), ""))


def test_the_cache_lies_beside_the_data_or_with_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert default_cache_folder(tmp_path) == tmp_path / ".medzeroseg_cache"
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert default_cache_folder(tmp_path) == tmp_path / "user" / "medzeroseg" / "slices"
