"""Weights that come with the package: they load, their cards are true, and their published rates are found again.

Most of this runs on untrained stand-ins, shipped by the very script that ships real ones.
"""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("mujoco")

import standin
import watchtrylearn as wtl
from watchtrylearn import cli
from watchtrylearn.data.store import EpisodeStore
from watchtrylearn.experiments import pretrained as shipped
from watchtrylearn.experiments.presets import read_experiment
from watchtrylearn.learners import weights

pytestmark = pytest.mark.sim
FOLDER = weights.FOLDER
COMMITTED = sorted(path.parent for path in FOLDER.glob("*/results.json"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return standin.ship(tmp_path_factory.mktemp("standin"))


@pytest.fixture
def here(folder, tmp_path, monkeypatch) -> Path:
    """An empty current directory, in a package that comes with the stand-ins."""
    monkeypatch.setattr(weights, "FOLDER", folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def changed(folder: Path, target: Path, rate: float) -> Path:
    """A copy of the shipped folder whose weights' published rates are all ``rate``, with a narrow interval."""
    shutil.copytree(folder, target)
    path = target / "wtl-state" / "results.json"
    document = json.loads(path.read_text())
    document["own"] = [row | {"value": rate, "ci": [rate - 0.01, rate]} for row in document["own"]]
    path.write_text(json.dumps(document))
    return target


# ---------------------------------------------------------------------------------------------- what is shipped


@pytest.fixture(params=["stand-in", "committed"])
def each(request, folder) -> Path:
    """The folder of the stand-ins' weights, then that of the committed ones."""
    if request.param == "stand-in":
        return folder / "wtl-state"
    assert [path.name for path in COMMITTED] == ["wtl-state"]
    return COMMITTED[0]


def test_the_cards_are_what_the_generator_makes_of_the_results(each):
    card = standin.script("pretrain").card
    found = json.loads((each / "results.json").read_text())
    for name in shipped.LEARNERS:
        meta = json.loads((each / name / "model.json").read_text())
        assert (each / name / "README.md").read_text() == card(name, found, meta)


def test_the_weights_fit_the_suite_and_the_retrial_policy_was_trained_on_trials_of_the_other(each):
    learners = {name: wtl.load(each / name) for name in shipped.LEARNERS}
    suite = wtl.make_suite("tabletop")
    for name, learner in learners.items():
        assert learner.name == name
        assert learner.spec.differences(suite.spec) == []
    trial = learners["watch_try_learn"].trial.state_dict()
    for name, tensor in learners["one_shot"].net.state_dict().items():
        assert (tensor == trial[name]).all()


def test_the_weights_say_what_they_were_trained_with(each):
    found = json.loads((each / "results.json").read_text())
    chosen = read_experiment(found["config"], "config")
    for name in shipped.LEARNERS:
        assert wtl.load(each / name).config == chosen.methods[name].config
    if each in COMMITTED:
        assert wtl.load(each / "one_shot").config.sampling == wtl.Sampling((0.0, 3.0, 1.0), (1.0,), frames=16)


def test_the_results_hold_the_rows_of_these_learners_and_no_other(each):
    found = json.loads((each / "results.json").read_text())
    assert {row["method"] for row in found["rows"]} == {row["method"] for row in found["own"]} == set(shipped.LEARNERS)
    assert found["seed"] in found["seeds"]
    assert found["config"]["seed"] == found["seed"]


def test_the_card_says_how_good_and_how_it_came_about(folder):
    card = (folder / "wtl-state" / "watch_try_learn" / "README.md").read_text()
    found = json.loads((folder / "wtl-state" / "results.json").read_text())
    for text in ("| 100 and 100 |", "1.5 minutes", found["commit"], "    wtl reproduce wtl-state\n", "## Limits"):
        assert text in card
    assert "target told" in (folder / "wtl-state" / "one_shot" / "README.md").read_text()


def test_results_of_other_scenes_are_not_shipped_with_these_weights(folder, tmp_path):
    published = json.loads((folder.parent / "wtl-state.json").read_text())
    for row in published["rows"]:
        row["n"] *= 3
    (tmp_path / "other.json").write_text(json.dumps(published))
    with pytest.raises(wtl.WtlError, match="not evaluated in the scenes of the published results"):
        standin.script("pretrain").main(folder.parent / "run", tmp_path / "other.json", tmp_path)
    assert not (tmp_path / "wtl-state").exists()


# ------------------------------------------------------------------------------------------------ the commands


def test_evaluating_finds_the_published_rates_again_and_does_nothing_twice(here, monkeypatch, capsys):
    monkeypatch.setattr(shipped, "CLIPS", 1)
    command = ["evaluate", "--pretrained", "wtl-state"]
    assert cli.main(command) == 0
    told = capsys.readouterr().err
    lines = [line for line in told.splitlines() if ": 1 seed " in line]
    assert len(lines) == 3 * 5 * 2  # one-shot, after one and two trials; four families and all; all and in conflict
    assert all(line.endswith("| inside") for line in lines)
    assert "30 of 30 rates are inside" in told
    assert "30 of them exactly equal" in told
    assert told.index("30 of 30 rates") < told.index("one-shot imitation") < told.index("report.html")
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*") if path.suffix in (".parquet", ".mp4", ".jpg")}
    assert len([path for path in before if path.suffix == ".mp4"]) == 3
    assert cli.main(command) == 0
    after = {path: path.stat().st_mtime_ns for path in here.rglob("*") if path.suffix in (".parquet", ".mp4", ".jpg")}
    assert before == after
    assert "filming" not in capsys.readouterr().err
    document = json.loads((here / "runs" / "pretrained-wtl-state" / "results.json").read_text())
    published = json.loads((weights.FOLDER / "wtl-state" / "results.json").read_text())
    assert document["rows"] == published["own"]


def test_a_rate_outside_the_published_interval_is_called_so(here, folder, monkeypatch, capsys):
    monkeypatch.setattr(shipped, "CLIPS", 0)
    monkeypatch.setattr(weights, "FOLDER", changed(folder, here / "elsewhere", rate=1.0))
    assert cli.main(["evaluate", "--pretrained", "wtl-state", "--out", str(here / "run")]) == 0
    told = capsys.readouterr().err
    row = "one-shot imitation, grasp, conflict: 1 seed 0.0 "
    (line,) = (line for line in told.splitlines() if line.startswith(row))
    assert line.endswith("| these weights 100.0 (99.0 to 100.0) | here 0.0 | OUTSIDE")
    assert "0 of 30 rates are inside" in told
    assert "0 of them exactly equal" in told


def test_the_demo_shows_every_scene_and_counts_them_all(here, monkeypatch, capsys):
    monkeypatch.setattr(shipped, "DEMO_TASKS", 4)
    monkeypatch.setattr(shipped, "CLIPS", 1)
    assert cli.main(["demo", "--pretrained"]) == 0
    told = capsys.readouterr().err
    lines = [line for line in told.splitlines() if "  trial: " in line]
    out = here / "runs" / "pretrained-wtl-state-demo"
    records = EpisodeStore.open(out / "evaluation" / "watch_try_learn").records
    trials, retrials = records[:8], records[8:]
    assert [line.split("  ")[1] for line in lines] == [r.task.sentence.capitalize() for r in trials]
    for line, trial, retrial in zip(lines, trials, retrials, strict=True):
        answers = [{True: "yes", False: "no"}[record.success] for record in (trial, retrial)]
        assert line.replace("(the readings disagree)", "").split()[-4:] == [
            "trial:",
            answers[0],
            "retrial:",
            answers[1],
        ]
        assert line.endswith("(the readings disagree)") == bool(trial.seed % 2)
    assert {r.task.family for r in trials} == {"button", "grasp", "push", "place"}
    yes = [sum(r.success for r in made) for made in (trials, retrials)]
    assert f"in all 8 scenes of 4 new tasks: yes to {yes[0]} trials and to {yes[1]} retrials" in told
    assert "in the 4 scenes where the readings disagree" in told
    assert told.index("  trial: ") < told.index("┏") < told.index("in all 8 scenes") < told.index("report.html")
    assert (out / "report.html").read_text().count("<video") == 3
    assert not (out / "demos").exists()  # nothing to train on, nothing trained


def test_a_directory_of_another_run_or_of_other_weights_is_refused(here, folder, monkeypatch, capsys):
    monkeypatch.setattr(shipped, "CLIPS", 0)
    command = ["evaluate", "--pretrained", "wtl-state", "--out"]
    assert cli.main([*command, str(folder.parent / "run")]) == 2
    assert 'name is "wtl-state", not "pretrained-wtl-state"' in sentence(capsys)
    assert cli.main([*command, "run"]) == 0
    meta = here / "run" / "one_shot" / "model.json"
    meta.write_text(meta.read_text().replace('"learner"', '"other"'))
    capsys.readouterr()
    assert cli.main([*command, "run"]) == 2
    assert "one_shot holds another model than" in sentence(capsys)


def sentence(capsys) -> str:
    error = str(capsys.readouterr().err)
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(("command", "expected"), [
    (["evaluate", "--pretrained", "wtl-stat"], "no pretrained weights 'wtl-stat'; did you mean 'wtl-state'?"),
    (["demo", "--pretrained", "../wtl-state"], "did you mean 'wtl-state'?"),
    (["evaluate", "--pretrained"], "--pretrained needs a name, e.g. wtl-state"),
    (["evaluate", "--pretrained", "--out", "x"], "--pretrained needs a name, e.g. wtl-state"),
    (["demo", "--pretrained", "--preset", "debug"], "--pretrained goes without --preset, --set and"),
    (["demo", "--pretrained", "wtl-state", "--set", "seed=1"], "--pretrained goes without --preset, --set and"),
    (["demo", "--pretrained", "--skip-bad"], "--pretrained goes without --preset, --set and --skip-bad"),
    (["demo", "--pretraned"], "did you mean '--pretrained'?"),
])  # fmt: skip
def test_a_mistake_gets_one_sentence_and_leaves_nothing_behind(here, capsys, command, expected):
    assert cli.main(command) == 2
    assert expected in sentence(capsys)
    assert list(here.iterdir()) == []


def test_an_installation_made_of_links_is_read(monkeypatch, tmp_path):
    """As uv's ``--link-mode symlink``, Nix and Bazel install it; in other folders, links are refused."""
    shutil.copytree(FOLDER, tmp_path / "pretrained", copy_function=lambda source, to: Path(to).symlink_to(source))
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "pretrained")
    assert wtl.load(wtl.pretrained("wtl-state") / "one_shot")
    with pytest.raises(wtl.WtlError, match="is a symbolic link"):
        wtl.load(tmp_path / "pretrained" / "wtl-state" / "one_shot")


def test_an_installation_without_weights_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    with pytest.raises(wtl.WtlError, match="comes with none"):
        wtl.pretrained("wtl-state")
