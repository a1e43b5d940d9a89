"""A phantom's folder: made once, complete or absent, others' files left alone, several and dead processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_modules.phantom import generate_roco, generation, storage
from medzeroseg.imaging.errors import InputError
from tests.helpers.phantom import digests, traces

TINY: dict[str, Any] = {"train": 4, "validation": 1, "test": 2, "image_size_px": 32, "workers": 0}


# --- made once ---


def count_captions(out: Path, split: str) -> int:
    return len((out / "data" / split / "radiology" / "captions.txt").read_text("utf-8").splitlines())


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.rglob("*")}


def test_second_call_touches_nothing(tmp_path: Path):
    out = tmp_path / "roco"
    first = generate_roco(out, **TINY)
    before = snapshot(out)
    again = generate_roco(out, **TINY)
    assert (first.created, again.created) == (True, False)
    assert again.content_sha256 == first.content_sha256
    assert snapshot(out) == before


def test_other_parameters_replace_the_phantom(tmp_path: Path):
    out = tmp_path / "roco"
    generate_roco(out, **TINY)
    report = generate_roco(out, **{**TINY, "test": 3})
    assert report.created
    assert count_captions(out, "test") == 3
    assert traces(out) == []


def test_other_code_replaces_the_phantom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "roco"
    generate_roco(out, **TINY)
    monkeypatch.setattr(generation, "sources_digest", lambda: "other")
    assert generate_roco(out, **TINY).created


def remove_image(out: Path) -> None:
    (out / "data/train/radiology/images/ROCO_00001.jpg").unlink()


def truncate_image(out: Path) -> None:
    path = out / "data/train/radiology/images/ROCO_00004.jpg"
    path.write_bytes(path.read_bytes()[:100])


def remove_captions(out: Path) -> None:
    (out / "data/test/radiology/captions.txt").unlink()


def remove_masks(out: Path) -> None:
    shutil.rmtree(out / "ground_truth/validation")


def damage_manifest(out: Path) -> None:
    (out / "phantom.json").write_text('{"generator": "medzer')


@pytest.mark.parametrize("damage", [remove_image, truncate_image, remove_captions, remove_masks, damage_manifest])
def test_a_damaged_phantom_is_made_anew(tmp_path: Path, damage: Callable[[Path], None]):
    out = tmp_path / "roco"
    generate_roco(out, **TINY)
    whole = digests(out)
    damage(out)
    assert generate_roco(out, **TINY).created
    assert digests(out) == whole


def test_an_empty_folder_is_used(tmp_path: Path):
    (tmp_path / "roco").mkdir()
    assert generate_roco(tmp_path / "roco", **TINY).created


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path):
    (tmp_path / "big_disk").mkdir()
    (tmp_path / "roco").symlink_to(tmp_path / "big_disk")
    generate_roco(tmp_path / "roco", **TINY)
    assert (tmp_path / "roco").is_symlink()
    assert (tmp_path / "big_disk" / "phantom.json").is_file()


# --- what is not ours is left alone ---


def test_a_folder_that_is_no_phantom_is_refused(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"no phantom.*another folder"):
        generate_roco(tmp_path, **TINY)
    assert digests(tmp_path).keys() == {"thesis.tex"}


def test_the_real_roco_is_refused(tmp_path: Path):
    images = tmp_path / "roco/data/train/radiology/images"
    images.mkdir(parents=True)
    (images / "ROCO_00002.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="no phantom"):
        generate_roco(tmp_path / "roco", **TINY)
    assert (images / "ROCO_00002.jpg").read_bytes() == b"x"


def test_a_manifest_of_another_tool_is_refused(tmp_path: Path):
    (tmp_path / "phantom.json").write_text('{"organ": "liver"}')
    with pytest.raises(InputError, match="no phantom"):
        generate_roco(tmp_path, **TINY)


def test_a_phantom_with_files_of_others_is_not_replaced(tmp_path: Path):
    out = tmp_path / "roco"
    generate_roco(out, **TINY)
    (out / "data" / "notes.txt").write_text("mine")
    assert not generate_roco(out, **TINY).created  # nothing to replace, nothing to refuse
    with pytest.raises(InputError, match=r"data/notes\.txt"):
        generate_roco(out, **{**TINY, "seed": 9})
    assert (out / "data" / "notes.txt").read_text() == "mine"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path):
    (tmp_path / "roco").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        generate_roco(tmp_path / "roco", **TINY)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        generate_roco(tmp_path / "file" / "roco", **TINY)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(root: Path, item: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(generation, "write_files", fail)
    with pytest.raises(InputError, match="No space left"):
        generate_roco(tmp_path / "roco", **TINY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("seed", -1),
        ("train", -1),
        ("test", -5),
        ("workers", -1),
        ("image_size_px", 16),
        ("hard_negative_fraction", 1.5),
        ("hard_negative_fraction", float("nan")),
    ],
)
def test_bad_arguments_are_named(tmp_path: Path, argument: str, value: float):
    with pytest.raises(ValueError, match=argument):
        generate_roco(tmp_path / "roco", **{**TINY, argument: value})
    assert not (tmp_path / "roco").exists()


# --- several processes, and dead ones ---

SCRIPT = """
import sys
from pathlib import Path
from data_modules.phantom import generate_roco
if __name__ == "__main__":
    sizes = {"train": int(sys.argv[2]), "validation": 1, "test": 1, "image_size_px": 64}
    report = generate_roco(Path(sys.argv[1]), **sizes, workers=0)
    sys.stdout.write(f"{report.created} {report.content_sha256}")
"""


def start(project_root: Path, out: Path, train: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(out), str(train)]
    return subprocess.Popen(command, cwd=project_root, stdout=subprocess.PIPE, text=True)


def test_two_processes_at_once_make_one_phantom(project_root: Path, tmp_path: Path):
    processes = [start(project_root, tmp_path / "roco", 150) for _ in range(2)]
    results = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(created for created, _ in results) == ["False", "True"]
    assert results[0][1] == results[1][1]
    assert traces(tmp_path / "roco") == []


def test_a_killed_run_is_completed_by_the_next(project_root: Path, tmp_path: Path):
    out = tmp_path / "roco"
    process = start(project_root, out, 100_000)
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".roco.partial-*/data/train/radiology/images/*.jpg")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)
    assert not out.exists()
    assert len(traces(out)) == 2  # its lock and its half-done work
    assert generate_roco(out, **TINY).created
    assert count_captions(out, "train") == TINY["train"]
    assert traces(out) == []


def test_a_lock_of_another_machine_is_broken_when_it_stands_still(tmp_path: Path):
    folder = tmp_path / "roco"
    (tmp_path / ".roco.lock").write_text("elsewhere 1 abc")
    lock = storage.Lock(folder, stale_after_s=0.5)
    start_s, taken = time.monotonic(), False
    while not taken and time.monotonic() - start_s < 10:
        with lock.hold() as taken:
            pass
    assert taken
    assert 0.5 <= time.monotonic() - start_s < 3
    assert traces(folder) == []


def test_a_living_lock_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(storage, "HEARTBEAT_S", 0.05)
    holder, other = (storage.Lock(tmp_path / "roco", stale_after_s=0.4) for _ in range(2))
    with holder.hold() as held:
        assert held
        for _ in range(8):  # 0.8 s, twice the time after which a dead lock would be broken
            with other.hold() as taken:
                assert not taken
    with other.hold() as taken:
        assert taken


def test_a_competitor_that_was_faster_is_accepted(tmp_path: Path):
    for name in ("work", "roco"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    assert storage.publish(tmp_path / "work", tmp_path / "roco", is_complete=lambda: True) is False
    assert (tmp_path / "roco" / "file").read_text() == "roco"
    assert storage.publish(tmp_path / "work", tmp_path / "roco", is_complete=lambda: False) is True
    assert (tmp_path / "roco" / "file").read_text() == "work"
