"""Plans are data, and their order is what the experiments' own configurations say."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from medzeroseg.errors import ConfigurationError
from medzeroseg.paper.configs import SEED, resolve, with_seed
from medzeroseg.paper.plan import Paper, Run, build_steps, load_paper, missing_data, require_data

EXPERIMENTS = Path(__file__).parent.parent.parent / "experiments"


def paper(*experiments: str, seeds: tuple[int, ...] = (0,)) -> Paper:
    files = {name: Path(f"experiments/{name}.yaml") for name in experiments}
    return Paper("test", "Test", "Fake.", seeds, True, files)


def template(experiment: str, *checkpoints: str, root: str | None = None, folder: str | None = None) -> str:
    values: dict[str, Any] = {
        "runs_dir": "runs",
        "experiment": experiment,
        "seed_everything": SEED,
        "trainer": {"default_root_dir": f"runs/{folder or experiment}/seed_{SEED}"},
        "model": {"init_args": {"parts": [{"checkpoint": name} for name in checkpoints]}},
        "data": {"init_args": {"root": root}} if root else {"class_path": "x"},
    }
    return yaml.safe_dump(values)


def best(experiment: str) -> str:
    return f"runs/{experiment}/seed_{SEED}/checkpoints/best.ckpt"


def test_runs_come_after_those_whose_checkpoints_they_read() -> None:
    templates = {"weak": template("weak", best("base"), best("other")), "other": template("other", best("base"))}
    templates["base"] = template("base")
    steps = build_steps(paper(*templates, seeds=(0, 3)), templates)
    order = [str(step.run) for step in steps]
    assert order == ["base, seed 0", "base, seed 3", "other, seed 0", "other, seed 3", "weak, seed 0", "weak, seed 3"]
    assert set(steps[5].needs) == {Run("base", 3), Run("other", 3)}
    assert steps[5].needs[Run("base", 3)] == Path("runs/base/seed_3/checkpoints/best.ckpt").absolute()
    assert steps[0].needs == {}


def test_a_circle_is_an_error_that_names_it() -> None:
    templates = {"a": template("a", best("b")), "b": template("b", best("a")), "c": template("c")}
    with pytest.raises(ConfigurationError, match="in a circle: a, seed 0, b, seed 0"):
        build_steps(paper(*templates), templates)


def test_a_checkpoint_that_no_run_of_the_plan_makes_is_an_error() -> None:
    templates = {"weak": template("weak", best("base"))}
    with pytest.raises(
        ConfigurationError, match=r"weak, seed 0 reads runs/base/seed_0/.*which no run of this paper makes"
    ):
        build_steps(paper("weak"), templates)


def test_a_checkpoint_outside_the_runs_has_to_be_there(tmp_path: Path) -> None:
    checkpoint = tmp_path / "released.ckpt"
    templates = {"weak": template("weak", str(checkpoint))}
    with pytest.raises(ConfigurationError, match=r"released\.ckpt"):
        build_steps(paper("weak"), templates)
    checkpoint.touch()
    [step] = build_steps(paper("weak"), templates)
    assert step.needs == {}


def test_two_experiments_of_one_folder_are_an_error() -> None:
    templates = {"a": template("a"), "b": template("b", folder="a")}
    with pytest.raises(ConfigurationError, match="same folder"):
        build_steps(paper(*templates), templates)


def named(experiment: str, of_record: str) -> str:
    callbacks = [
        {"class_path": "medzeroseg.callbacks.RetrievalTable", "init_args": {"experiment": of_record}},
        {"class_path": "lightning.pytorch.callbacks.LearningRateMonitor", "init_args": {}},
        {"class_path": "mine.Callback"},
    ]
    values = yaml.safe_load(template("mine", folder=experiment)) | {"experiment": experiment}
    values["trainer"]["callbacks"] = callbacks
    return yaml.safe_dump(values)


def test_an_experiment_of_another_name_than_its_file_is_an_error_that_names_both() -> None:
    assert len(build_steps(paper("mine"), {"mine": named("mine", "mine")})) == 1
    with pytest.raises(
        ConfigurationError, match=r"^experiments/mine\.yaml: experiment is 'other'.*'mine'.*`experiment: mine`"
    ):
        build_steps(paper("mine"), {"mine": named("other", "other")})
    with pytest.raises(ConfigurationError, match=r"experiment of the callback RetrievalTable is 'other'.*'mine'"):
        build_steps(paper("mine"), {"mine": named("mine", "other")})


def test_all_missing_data_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    roots = {"a": "absent", "b": "empty", "c": "there", "d": "absent"}
    templates = {name: template(name, root=str(tmp_path / root)) for name, root in roots.items()}
    steps = build_steps(paper(*templates), templates)
    assert missing_data(steps) == {tmp_path / "absent": ["a", "d"], tmp_path / "empty": ["b"]}
    with pytest.raises(ConfigurationError) as error:
        require_data(steps)
    assert f"{tmp_path / 'absent'}: for a, d" in str(error.value)
    assert f"{tmp_path / 'empty'}: for b" in str(error.value)
    assert "DATA_ROOT" in str(error.value)
    require_data([step for step in steps if step.run.experiment == "c"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiments": ["no_such_experiment"]}, "no experiment 'no_such_experiment'"),
        ({"experiments": ["phantom_cehnc", "phantom_cehnc"]}, "more than once"),
        ({"experiments": []}, "experiments must be a list that is not empty"),
        ({"seeds": [0, -1]}, "integers from 0"),
        ({"seeds": [True]}, "integers from 0"),
        ({"seeds": 3}, "seeds must be a list"),
        ({"data_is_made": "yes"}, "data_is_made must be a bool"),
        ({"more": 1}, "exactly the keys"),
    ],
)
def test_a_faulty_plan_is_refused(
    change: dict[str, object], message: str, tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project_root)
    good = {"title": "T", "statement": "S", "seeds": [0], "data_is_made": True, "experiments": ["phantom_cehnc"]}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(good), encoding="utf-8")
    assert load_paper(str(path)).experiments == {"phantom_cehnc": Path("experiments/phantom_cehnc.yaml")}
    path.write_text(yaml.safe_dump(good | change), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=message):
        load_paper(str(path))


def test_an_unknown_paper_lists_the_known_ones(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project_root)
    with pytest.raises(ConfigurationError, match="phantom, real, samples"):
        load_paper("nature")


def test_the_shipped_papers_hold_every_row_of_their_kind(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project_root)
    names = {file.stem for file in EXPERIMENTS.glob("*.yaml")}
    ends = ("zeroshot", "infonce_zeroshot", "misnet", "weak", "full")
    losses = ("cehnc", "infonce", "dcl", "hn_nce", "dhn_nce")
    phantom = {f"phantom_{data}_{end}" for data in ("acdc", "synapse", "covid_qu_ex") for end in ends}
    assert set(load_paper("phantom").experiments) == phantom | {f"phantom_{loss}" for loss in losses}
    samples = {f"samples_{data}_{end}" for data in ("acdc", "sunnybrook", "covid_qu_ex") for end in ends}
    samples |= {f"samples_{data}_dpfem_zeroshot" for data in ("acdc", "sunnybrook", "covid_qu_ex")}
    samples |= {"real_samples_cehnc", "real_samples_infonce", "real_samples_dpfem", "samples_ct_zeroshot"}
    assert set(load_paper("samples").experiments) == samples
    real = load_paper("real")
    starts = ("roco_", "acdc_", "synapse_", "covid_qu_ex_")
    # ROCO v2 is not the publication's
    assert set(real.experiments) == {name for name in names if name.startswith(starts)} - {"roco_v2_cehnc"}
    assert real.seeds == (0, 1, 2)


def test_a_seed_stands_wherever_the_template_has_its_place() -> None:
    settings = with_seed(template("a", best("b")), 7)
    assert settings["seed_everything"] == 7
    assert settings["trainer"]["default_root_dir"] == "runs/a/seed_7"
    assert settings["model"]["init_args"]["parts"][0]["checkpoint"] == "runs/b/seed_7/checkpoints/best.ckpt"


def test_what_was_resolved_is_kept_until_something_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, project_root: Path
) -> None:
    monkeypatch.chdir(project_root)
    calls: list[str] = []

    def parse(file: Path, options: list[str]) -> str:
        calls.append(file.name)
        return file.read_text(encoding="utf-8")

    # in place of the module, whose imports take seconds
    monkeypatch.setitem(sys.modules, "medzeroseg.paper.parsing", SimpleNamespace(parse_experiment=parse))
    file = tmp_path / "experiments" / "mine.yaml"
    part = tmp_path / "experiments" / "parts" / "part.yaml"
    part.parent.mkdir(parents=True)
    file.write_text("experiment: mine", encoding="utf-8")
    part.write_text("root: ${oc.env:SOME_ROOT,x}", encoding="utf-8")

    def resolved(*overrides: str) -> int:
        resolve({"mine": file}, overrides, tmp_path / "cache", ("medzeroseg.paper",))
        return len(calls)

    assert resolved() == 1
    assert resolved() == 1
    assert resolved("--trainer.max_epochs=3") == 2
    monkeypatch.setenv("SOME_ROOT", "/elsewhere")
    assert resolved("--trainer.max_epochs=3") == 3
    part.write_text("root: y", encoding="utf-8")
    assert resolved("--trainer.max_epochs=3") == 4
    assert resolved("--trainer.max_epochs=3") == 4
    assert len(list((tmp_path / "cache").iterdir())) == 1  # what is of no use any more is removed
