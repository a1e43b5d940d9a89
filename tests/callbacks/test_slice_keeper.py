"""One slice of every case is kept, with what each method made of it, on one process and on several."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from medzeroseg.callbacks import SliceKeeper
from medzeroseg.figures.kept_slices import KeptSlices, read_slices
from medzeroseg.zero_shot.assembly import AssembledCase
from medzeroseg.zero_shot.method import CaseSegmentation
from tests.helpers.process_pool import run_in_processes

NAMES = ["a", "b", "c"]
STRUCTURES = {"liver": [1], "both": [1, 2]}


def case_of(name: str, spacing_mm: tuple[float, ...] | None = (5.0, 1.5, 1.25)) -> AssembledCase:
    reference = torch.zeros(4, 6, 8, dtype=torch.uint8)
    reference[2, 1:4, 2] = 2
    images = torch.full((4, 6, 8), NAMES.index(name) / 2)
    return AssembledCase(name, {}, images, reference, None, spacing_mm)


def found_by(method: str) -> CaseSegmentation:
    maps = torch.linspace(0, 1, 4).reshape(4, 1, 1, 1).expand(4, 2, 3, 3).contiguous()
    masks = torch.zeros(2, 4, 6, 8, dtype=torch.bool)
    masks[0, 2] = method == "m"
    return CaseSegmentation(masks, maps, torch.zeros(()))


def keep(folder: Path, names: list[str], keeper: SliceKeeper, *, zero_shot: bool = True) -> None:
    cases = [SimpleNamespace(case_id=name) for name in NAMES]
    trainer = SimpleNamespace(datamodule=SimpleNamespace(cases=lambda part: cases), default_root_dir=str(folder))
    task: Any = SimpleNamespace(trainer=trainer, structures=STRUCTURES, **({"methods": {}} if zero_shot else {}))
    keeper.on_cases_start(task)
    for name in names:
        for method in ("m", "n"):
            keeper.on_case(task, method, case_of(name), found_by(method))
    module: Any = SimpleNamespace(device=torch.device("cpu"))
    keeper.on_test_end(trainer, module)  # type: ignore[arg-type]  # what of a trainer it reads


def kept_in(folder: Path) -> KeptSlices:
    kept = read_slices(folder)
    assert kept is not None
    return kept


def test_it_keeps_the_slice_with_most_outlined_pixels(tmp_path: Path) -> None:
    keep(tmp_path, NAMES, SliceKeeper())
    kept = kept_in(tmp_path)
    assert kept.structures == {"liver": (1,), "both": (1, 2)}
    assert [one.case_id for one in kept.slices] == NAMES
    for one in kept.slices:
        assert (one.index, one.depth, one.spacing_mm) == (2, 4, (1.5, 1.25))
        assert (one.image == round(255 * NAMES.index(one.case_id) / 2)).all()
        assert (one.reference == 2).sum() == 3
        assert [bool(one.masks[method][0].all()) for method in ("m", "n")] == [True, False]
        assert not one.masks["m"][1].any()
        assert (one.maps["m"] == 170).all()  # 2/3 of 255


def test_a_network_leaves_no_saliency(tmp_path: Path) -> None:
    keep(tmp_path, NAMES, SliceKeeper(), zero_shot=False)
    assert not any(one.maps for one in kept_in(tmp_path).slices)


def test_a_lost_spacing_is_none(tmp_path: Path) -> None:
    keeper = SliceKeeper()
    keeper._structures, keeper._wanted = {"liver": (1,)}, {"a"}
    nan = float("nan")
    for spacing in (None, (nan, nan, nan)):
        keeper._current = None
        task: Any = SimpleNamespace()
        keeper.on_case(task, "m", case_of("a", spacing), found_by("m"))
        assert keeper._current is not None
        assert keeper._current.spacing_mm is None


def test_a_limit_keeps_cases_evenly_and_says_how_many_there_were(tmp_path: Path) -> None:
    keep(tmp_path, NAMES, SliceKeeper(max_cases=1))
    kept = kept_in(tmp_path)
    assert ([one.case_id for one in kept.slices], kept.cases) == (["b"], 3)
    with pytest.raises(ValueError, match="max_cases"):
        SliceKeeper(max_cases=0)


def _on_a_rank(folder: Path) -> None:
    rank = torch.distributed.get_rank()
    keep(folder, [["c", "a"], ["b"]][rank], SliceKeeper())


def test_ranks_leave_the_file_of_one_process(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    run_in_processes(_on_a_rank, 2, tmp_path / "two")
    keep(tmp_path, NAMES, SliceKeeper())
    together, alone = kept_in(tmp_path / "two"), kept_in(tmp_path)
    assert [one.case_id for one in together.slices] == NAMES
    assert together.cases == alone.cases
    for one, other in zip(together.slices, alone.slices, strict=True):
        assert (one.image == other.image).all()
        assert (one.masks["m"] == other.masks["m"]).all()
