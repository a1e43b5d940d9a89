"""A training that is broken off anywhere, and goes on, ends bit by bit where the unbroken one ends."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.faults import EXPECTED, STEPS, Fault, Outcome, differences, draw_faults, train_through

pytestmark = pytest.mark.timeout(1800)  # every start of a training imports for seconds


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, project_root: Path):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project_root)
        patch.setenv("OMP_NUM_THREADS", "1")
        yield tmp_path_factory.mktemp("resume")


@pytest.fixture(scope="module")
def whole(folder: Path) -> Outcome:
    return train_through([], folder / "whole", folder / "phantom")


def test_faults_are_drawn_over_the_whole_training() -> None:
    drawn = draw_faults(20, workers=2, seed=0)
    assert {fault.step for fault in drawn} == set(range(1, STEPS))  # the epoch of windows, the last, included
    assert dict.fromkeys(EXPECTED, 20) == Counter(fault.kind for fault in drawn)
    assert drawn == draw_faults(20, workers=2, seed=0) != draw_faults(20, workers=2, seed=1)


@pytest.mark.slow
def test_killed_in_the_middle_of_epochs_of_pairs_and_of_windows(folder: Path, whole: Outcome) -> None:
    faults = [Fault("kill -9 before a step", 5), Fault("kill -9 in the middle of a checkpoint", 18)]
    broken = train_through(faults, folder / "killed", folder / "phantom")
    assert broken.codes == [-9, -9, 0]
    assert broken.log.count("Restored all states") == 2  # it did go on, from the middle of an epoch
    assert differences(whole.folder, broken.folder) == []
    assert differences(whole.folder, whole.folder) == []


@pytest.mark.slow
def test_two_readers_change_nothing_and_may_be_killed(folder: Path, whole: Outcome) -> None:
    faults = [Fault("reader killed", 4), Fault("kill -9 in the optimizer's step", 13)]
    broken = train_through(faults, folder / "readers", folder / "phantom", workers=2)
    assert "A process that reads data (pid" in broken.log
    assert differences(whole.folder, broken.folder) == []


@pytest.mark.slow
def test_the_comparison_sees_a_difference(folder: Path, whole: Outcome) -> None:
    import torch

    path = folder / "other" / "checkpoints"
    path.mkdir(parents=True)
    for name in ("last.ckpt", "best.ckpt"):
        checkpoint = torch.load(whole.folder / "checkpoints" / name, weights_only=True)
        weight = next(value for value in checkpoint["state_dict"].values() if value.is_floating_point() and value.ndim)
        weight.view(-1)[0] = torch.nextafter(weight.view(-1)[0], torch.tensor(1e9))
        torch.save(checkpoint, path / name)
    assert len(differences(whole.folder, folder / "other")) == 2


@pytest.mark.slow
def test_every_kind_of_fault_is_survived(folder: Path, whole: Outcome) -> None:
    faults = sorted(draw_faults(1, workers=0, seed=0), key=lambda fault: fault.step)
    assert {fault.kind for fault in faults} == EXPECTED.keys() - {"reader killed"}
    assert all(0 < fault.step < STEPS for fault in faults)
    broken = train_through(faults, folder / "all", folder / "phantom")
    assert broken.codes == [EXPECTED[fault.kind] for fault in faults] + [0]
    assert differences(whole.folder, broken.folder) == []
    for told in ("the one before is whole", "A gradient is not finite", "Go on with RESUME=1"):
        assert told in broken.log
