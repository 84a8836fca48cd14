"""Experiments are plans: what the presets are, how a person changes one, and the order of work that follows from it."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from watchtrylearn.experiments import EXPERIMENTS, Experiment, Method, experiment
from watchtrylearn.experiments.main_job import reproduce_command
from watchtrylearn.experiments.plan import as_json, branches
from watchtrylearn.experiments.presets import AUTHORS, read_experiment
from watchtrylearn.learners import LEARNERS
from watchtrylearn.learners.bc import BCConfig
from watchtrylearn.nn.policy_net import EyeConfig
from watchtrylearn.types import WtlError

FIVE = ["bc", "contextual", "one_shot", "trials_only", "watch_try_learn"]
RESOLVED = {  # config and training of each, as they were before experiments were plans
    "debug": ["9b9aad3ff028", "a6babceceb08", "c97a2a9a73fe", "0d0177c05681", "e2a9520ae90f"],
    "wtl-curves": ["bd97d4714c54", "918df08f5147", "1773fa02208d", "f54e60def538", "0dfa87e390f6"],
    "wtl-reacher": ["3305a59fd07f", "e1e0c525c2e8", "78386d299790", "316f2fbedb4d", "805213a394da"],
    "wtl-state": ["a3dc879efae2", "02229abaca0a", "6846a22633d5", "310270e1a66e", "0dfaea74d8ec"],
}


LATER = {  # options that were added since, and what leaves everything as it was
    "relabelled": 0.0, "symmetries": False, "compare_scenes": False, "squared_error": False, "retrial": None,
    "image_frames": None, "eye": as_json(EyeConfig()),
}  # fmt: skip


def without_later(config: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if key not in LATER or value != LATER[key]}
    return {key: without_later(value) if isinstance(value, dict) else value for key, value in kept.items()}


@pytest.mark.parametrize("preset", [e for e in EXPERIMENTS if e.name in RESOLVED], ids=lambda e: e.name)
def test_the_presets_are_what_they_were(preset: Experiment) -> None:
    stored = as_json(preset)["methods"]
    assert list(stored) == FIVE + (list(AUTHORS) if preset.name == "wtl-state" else [])
    for name, digest in zip(FIVE, RESOLVED[preset.name], strict=True):
        method = stored[name]
        settings = {"config": without_later(method["config"]), "train": method["train"]}
        text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
        assert hashlib.sha256(text.encode()).hexdigest()[:12] == digest, (name, settings)


@pytest.mark.parametrize("preset", EXPERIMENTS, ids=lambda e: e.name)
def test_a_plan_goes_through_json_and_back(preset: Experiment) -> None:
    stored = json.loads(json.dumps(as_json(preset)))
    back = read_experiment(stored, "experiment.json")
    assert back == preset
    assert all(type(back.methods[name].config) is type(preset.methods[name].config) for name in FIVE)


def test_an_experiment_of_before_is_read() -> None:
    """The published weights carry the experiment that they come from."""
    path = Path(__file__).parents[1] / "src/watchtrylearn/pretrained/wtl-state/results.json"
    stored = json.loads(path.read_text())["config"]
    assert "methods" not in stored
    chosen = experiment("wtl-state", ["train.threads=0"])
    chosen = replace(chosen, methods={name: chosen.methods[name] for name in FIVE})  # what there was then
    assert read_experiment(stored, "published") == chosen
    del stored["frames"]
    with pytest.raises(WtlError, match="published lacks frames"):
        read_experiment(stored, "published")


def test_a_wrong_field_of_a_stored_plan_is_named() -> None:
    stored = as_json(experiment("debug"))
    stored["methods"]["bc"]["config"]["net"]["width"] = "wide"
    stored["methods"]["one_shot"]["trian"] = {}
    with pytest.raises(WtlError) as refused:
        read_experiment(stored, "experiment")
    assert 'experiment.methods.bc.net.width must be int, got "wide"' in str(refused.value)
    assert "experiment.methods.one_shot has no option \"trian\"; did you mean 'train'?" in str(refused.value)


@pytest.mark.parametrize(("place", "value"), [
    (["methods"], 3), (["methods", "bc"], 3), (["methods", "bc", "config"], [1]), (["methods", "bc", "learner"], None),
    (["methods", "bc", "train"], []), (["methods", "bc", "trials"], "one_shot"), (["methods", "bc", "tries"], -1),
    (["methods", "bc", "config", "sampling"], "x"),
])  # fmt: skip
def test_a_stored_plan_that_holds_something_else_is_refused(place: list[str], value: object) -> None:
    stored = as_json(experiment("debug"))
    node = stored
    for part in place[:-1]:
        node = node[part]
    node[place[-1]] = value
    with pytest.raises(WtlError):
        read_experiment(stored, "experiment")


@pytest.mark.parametrize(("name", "value"), [("train", 3), ("demos", 5), ("net", "x"), ("elsewhere", "x")])
def test_a_stored_experiment_of_before_that_holds_something_else_is_refused(name: str, value: object) -> None:
    path = Path(__file__).parents[1] / "src/watchtrylearn/pretrained/wtl-state/results.json"
    with pytest.raises(WtlError, match=f"published.{name} must be"):
        read_experiment(json.loads(path.read_text())["config"] | {name: value}, "published")


# ------------------------------------------------------------------------------------------------ changing one


def test_options_are_of_the_experiment_of_a_method_or_of_all_methods() -> None:
    chosen = experiment(
        "debug", ["scenes=4", "one_shot.net.width=32", "train.steps=7", "bc.train.steps=9", "bc.tries=3"]
    )
    assert chosen.scenes == 4
    assert [m.config.net.width for m in chosen.methods.values()] == [64, 64, 32, 64, 64]
    assert [m.train.steps for m in chosen.methods.values()] == [9, 7, 7, 7, 7]
    assert chosen.methods["bc"].tries == 3
    flat = experiment("debug", ["net.embedding=flat", "warm_start=false"])
    assert [m.config.net.embedding for m in flat.methods.values()] == ["flat", "last_frame", "flat", "flat", "flat"]
    assert not flat.methods["watch_try_learn"].config.warm_start


@pytest.mark.parametrize(("setting", "sentence"), [
    ("train.bc.steps=8", "the option train.bc.steps is called bc.train.steps now"),
    ("frames=4", "the option frames is called sampling.frames now"),
    ("trials_per_demo=1", "the option trials_per_demo is called one_shot.tries now"),
    ("blind_trials_per_demo=1", "is called bc.tries now"),
    ("elsewhere=0.5", "is called watch_try_learn.sampling.elsewhere now"),
    ("net.width=10", "^net.width must be a multiple"),  # once, not five times
    ("bc.net.width=10", "^bc: net.width must be a multiple"),
    ("bc.net.wdith=8", "experiment debug has no option 'bc.net.wdith'; did you mean 'width'"),
    ("net.wdith=8", "^experiment debug has no option 'net.wdith'; did you mean 'width'.$"),
    ("one_shot=3", "a method cannot be set as a whole"),
    ("bc.train=3", "bc: train must be a group of options, got 3"),
    ("bc.net=3", "bc: net must be a group of options, got 3"),
    ("one_sht.train.steps=8", "did you mean 'one_shot'"),
    ("bc.learner=one_shot", "'learner' cannot be set"),
    ("one_shot.tries=0", "watch_try_learn learns from the trials of one_shot, which makes none: one_shot.tries is 0"),
    ("watch_try_learn.start=bc", "watch_try_learn begins with the weights of one_shot, so .*cannot be 'bc', a bc"),
    ("one_shot.start=bc", "one_shot begins with the weights of no other method, so one_shot.start cannot be 'bc'"),
    ('bc.trials=["nobody"]', "bc needs 'nobody', which the experiment does not have"),
    ('one_shot.trials=["one_shot"]', "methods need each other in a circle: one_shot -> one_shot"),
    ("methods=3", "experiment debug has no option 'methods'"),
])  # fmt: skip
def test_a_mistake_is_said_in_one_sentence(setting: str, sentence: str) -> None:
    with pytest.raises(WtlError, match=sentence):
        experiment("debug", [setting])


def test_the_command_says_what_was_changed_as_shortly_as_it_can() -> None:
    settings = ["scenes=4", "net.hidden=[16]", "one_shot.train.steps=9"]
    command = reproduce_command(experiment("debug", settings))
    assert command == "wtl reproduce debug --set scenes=4 'net.hidden=[16]' one_shot.train.steps=9"
    again = command.split(" --set ")[1].replace("'", "").split()
    assert experiment("debug", again) == experiment("debug", settings)


# ------------------------------------------------------------------------------------------- whom a plan needs


@dataclass(frozen=True)
class Small:
    """The config of a method that has neither network nor sampling of ours."""

    size: int = 3


def two_variants() -> Experiment:
    """Two methods of one learner, and one that learns from the trials of both."""
    debug = experiment("debug")
    bc, both = debug.methods["bc"], debug.methods["trials_only"]
    wide = replace(bc, config=replace(bc.config, net=replace(bc.config.net, width=128)))
    methods = {
        "wide": wide,
        "bc": bc,
        "one_shot": debug.methods["one_shot"],
        "both": replace(both, trials=("bc", "wide")),
    }
    return replace(debug, methods=methods)


def test_what_needs_each_other_is_in_one_branch_and_in_order() -> None:
    first, second = branches(two_variants(), ["one_shot", "both"])
    assert first == [
        ("train", "wide"), ("try", "wide"), ("train", "bc"), ("try", "bc"), ("train", "both"), ("evaluate", "both"),
    ]  # fmt: skip
    assert second == [("train", "one_shot"), ("evaluate", "one_shot")]  # nobody asks for its trials


@pytest.mark.parametrize("name", ["demo", "wtl-state", "debug"])
def test_the_longer_branch_of_the_main_job_is_that_of_who_watches(name: str) -> None:
    chosen = experiment(name)
    first, second = branches(chosen, chosen.main)
    assert first == [
        ("train", "one_shot"), ("try", "one_shot"), ("train", "watch_try_learn"),
        ("evaluate", "one_shot"), ("evaluate", "watch_try_learn"),
    ]  # fmt: skip
    assert second == [
        ("train", "bc"), ("try", "bc"), ("train", "trials_only"), ("evaluate", "bc"), ("evaluate", "trials_only"),
    ]  # fmt: skip
    assert chosen.explorers[:2] == ["one_shot", "bc"]
    assert experiment(name, ["one_shot.train.steps=1"]).explorers == chosen.explorers  # however long each is trained
    assert chosen.retrial == "watch_try_learn"


def test_a_method_begins_with_a_method_of_the_learner_that_its_own_starts_from() -> None:
    debug = experiment("debug")
    first, second = debug.methods["one_shot"], replace(debug.methods["watch_try_learn"], start="large", trials=())
    chosen = replace(debug, methods={"large": first, "retrial": second})
    assert chosen.methods["retrial"].needs == ("large",)
    with pytest.raises(WtlError, match="a bc cannot be called 'one_shot', which is another learner's name"):
        replace(debug, methods={"one_shot": Method("bc")})


def test_two_methods_of_one_learner_are_told_apart_everywhere() -> None:
    chosen = two_variants()
    assert chosen.methods["wide"].learner == chosen.methods["bc"].learner == "bc"
    assert read_experiment(as_json(chosen), "x") == chosen
    assert not chosen.uses_trials("wide")
    assert chosen.uses_trials("both")


def test_a_plan_holds_methods_that_this_library_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    import watchtrylearn.learners as table

    entry = replace(LEARNERS[0], name="mine", label="mine", config=Small)
    monkeypatch.setattr(table, "LEARNERS", (*LEARNERS, entry))
    chosen = experiment("debug", ["mine.size=5", "mine.main=true"])
    assert chosen.methods["mine"].config == Small(5)
    assert chosen.main[-1] == "mine"
    assert read_experiment(as_json(chosen), "x") == chosen
    assert reproduce_command(chosen) == "wtl reproduce debug --set mine.main=true mine.size=5"
    assert "mine" not in experiment("debug").methods
    assert experiment("debug").method("mine") == Method("mine", main=False)  # can be trained by name all the same
    with pytest.raises(WtlError, match="mine: size must be int"):
        experiment("debug", ["mine.size=large"])


def test_a_config_of_another_learner_or_with_a_taken_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import watchtrylearn.learners as table

    with pytest.raises(WtlError, match="one_shot is built from a OneShotConfig, not from a BCConfig"):
        Method("one_shot", BCConfig())

    @dataclass(frozen=True)
    class Taken:
        trials: int = 0

    monkeypatch.setattr(table, "LEARNERS", (*LEARNERS, replace(LEARNERS[0], name="mine", config=Taken)))
    with pytest.raises(WtlError, match="Taken has a field 'trials', a word that experiments use; rename it"):
        Method("mine")


@pytest.mark.parametrize("name", ["demos", "scenes", "a/b", ""])
def test_a_method_must_have_a_name_of_its_own(name: str) -> None:
    with pytest.raises(WtlError, match="a method cannot be called"):
        replace(experiment("debug"), methods={name: Method("bc")})
