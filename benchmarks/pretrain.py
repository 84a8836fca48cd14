"""Ship a trained seed with the package: its weights, the results they belong to, and a model card of each.

usage: python benchmarks/pretrain.py runs/wtl-state/seed-0 benchmarks/results/wtl-state.json
"""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from watchtrylearn.errors import WtlError
from watchtrylearn.experiments import steps
from watchtrylearn.experiments.plan import as_json
from watchtrylearn.experiments.pretrained import LEARNERS, attempts, rows
from watchtrylearn.experiments.run import Run, open_run
from watchtrylearn.learners.weights import FOLDER, RESULTS
from watchtrylearn.reporting import results, tables
from watchtrylearn.reporting.documents import read_document
from watchtrylearn.system.files import read_typed, write_atomic, write_json
from watchtrylearn.system.progress import Display
from watchtrylearn.training import checkpoint

Document = Mapping[str, Any]

CARD = "README.md"
KEPT = (  # of the published document
    "experiment", "command", "commit", "seeds", "machine", "versions", "interval", "comparisons"
)  # fmt: skip
WHAT = {
    "one_shot": """\
One-shot imitation: watch one demonstration of a task that was not in the training set, and do the same in another
scene. It is the trial policy of Watch-Try-Learn; trials in its context are ignored (`docs/learners/one_shot.md`).""",
    "watch_try_learn": """\
Watch-Try-Learn: watch one demonstration of a task that was not in the training set, try, hear yes or no, and try again
with demonstration, trials and outcomes in mind. It holds two networks: the trial policy, which is `one_shot` of this
folder, and the retrial policy (`docs/learners/watch_try_learn.md`).""",
}
LIMITS = """\
- Simulation only. It has never run on a real robot, and nothing here says that it could.
- It sees states, not images: the poses of the gripper, of two objects and of two buttons. What an object looks like, or
  how it is shaped, it is never told.
- It fits the suite `{suite}` and what has the same numbers, no other robot: a spec that differs is refused.
- It knows the families of tasks it was trained on: {families}.
- From a trial it learns which of the things it was taught is wanted, not a new skill.
- Demonstrations came from a script with human-like variety, not from people.
- Intervals are over test tasks. How much another training would differ, the row of these weights beside the rows of
  all seeds gives an idea of, not a measure."""


def main(run_folder: Path, published: Path, folder: Path = FOLDER) -> None:
    """Writes the folder of the experiment's name below ``folder``, in place of one that is there."""
    document = read_document(published)
    with open_run(run_folder, None, Display()) as run:
        found = collect(run, document)
        target = folder / run.experiment.name
        shutil.rmtree(target, ignore_errors=True)
        for name in LEARNERS:
            checkpoint.copy_model(run_folder / name, target / name)
            write_atomic(
                target / name / CARD, card(name, found, read_typed(target / name / "model.json", dict[str, Any]))
            )
    write_json(target / RESULTS, found)


def collect(run: Run, document: Document) -> dict[str, Any]:
    """The published rows of these learners, and those of this run's weights alone; refuses a run of other results."""
    own = rows(attempts(run), run)
    mine = [row for row in document["rows"] if row["method"] in LEARNERS]
    scenes = [row["n"] for row in mine if _is_total(row)]
    if document["experiment"] != run.experiment.name or run.experiment.seed not in document["seeds"]:
        raise WtlError(
            f"{run.directory} is not a run of experiment {document['experiment']}, seeds {document['seeds']}"
        )
    if scenes != [row["n"] * len(document["seeds"]) for row in own if _is_total(row)]:
        raise WtlError(f"{run.directory} was not evaluated in the scenes of the published results")
    return {
        **{name: document[name] for name in KEPT if name in document},
        "seed": run.experiment.seed,
        "config": as_json(run.experiment),
        "data": steps.counts(run),
        "seconds": run.seconds(),
        "parameters": {name: _parameters(run.directory / name) for name in LEARNERS},
        "own": own,
        "rows": mine,
    }


def _is_total(row: results.Row) -> bool:
    return not tables.condition(row) and (row["family"], row["subset"]) == ("all", "all")


def _parameters(model: Path) -> int:
    return sum(tensor.numel() for tensor in checkpoint.load_model(model)[1].values())


# --------------------------------------------------------------------------------------------------- the card


def card(name: str, found: Document, meta: Document) -> str:
    """The model card, from ``results.json`` and ``model.json`` alone."""
    suite = f"{found['config']['suite']}"
    families = dict.fromkeys(row["family"] for row in found["own"] if row["family"] != "all")
    parts = {
        f"`{name}`, trained for `{found['experiment']}`": f"{WHAT[name]}\n\n{_use(name, found)}",
        "Training data": _data(name, found),
        "Training": _training(name, found, meta),
        "Results": _results(name, found),
        "Limits": LIMITS.format(suite=suite, families=", ".join(families)),
    }
    text = "\n\n## ".join(f"{heading}\n\n{body}" for heading, body in parts.items())
    return f"# {text}\n\nApache-2.0, like the package. This page is generated by `benchmarks/pretrain.py`.\n"


def _use(name: str, found: Document) -> str:
    return (
        f'    learner = wtl.load(wtl.pretrained("{found["experiment"]}") / "{name}")\n\n'
        f"{found['parameters'][name]:,} numbers in `model.safetensors`; what they are for, in `model.json`."
    )


def _data(name: str, found: Document) -> str:
    config, counts = found["config"], found["data"]
    scenes = config["demos_per_task"]
    demos = (
        f"{counts['recorded']:,} demonstrations of the suite `{config['suite']}`, by its scripted demonstrator: "
        f"{(counts['recorded'] + counts['failed']) // scenes} training tasks in {scenes} scenes each, less "
        f"{counts['failed']} in which the demonstrator failed. No task and no object of the test set is among them."
    )
    if name == "one_shot":
        return demos
    trials, success = counts["trials_one_shot"], tables.percent(counts["trials_one_shot_success"])
    return f"{demos}\n\n{trials:,} trials by `one_shot` in these scenes, {success} % of them successful."


def _training(name: str, found: Document, meta: Document) -> str:
    plan, seconds, frames = meta["train"], found["seconds"], meta["config"]["sampling"]["frames"]
    versions = ", ".join(f"{package} {number}" for package, number in meta["versions"].items())
    return (
        f"    {found['command']}\n\n"
        f"These are the weights of seed {found['seed']} (of {_listed(found['seeds'])}; results written at commit "
        f"{found['commit']}): {plan['steps']:,} steps of {plan['batch_size']} episodes at {frames} moments "
        f"each, learning rate {plan['learning_rate']:g}, {seconds[f'train {name}'] / 60:.1f} minutes on "
        f"{found['machine']['cores']} cores. Written by {versions}."
    )


def _results(name: str, found: Document) -> str:
    published, own = ([row for row in found[key] if row["method"] == name] for key in ("rows", "own"))
    seeds = _listed(found["seeds"])
    test = next(row for row in own if _is_total(row))
    text = [
        f"Success in % in {test['n']} scenes of {test['tasks']} test tasks, with {tables.intervals(found)}, beside "
        "the best that is possible there. In the column *conflict* are only the scenes where the two readings of the "
        "demonstration disagree.",
        f"As published, seeds {seeds} together:\n\n{tables.markdown({**found, 'rows': published})}",
        f"These weights alone, seed {found['seed']}:\n\n{tables.markdown({**found, 'rows': own})}",
        *([_gain(found["comparisons"])] if name == "watch_try_learn" else []),
        f"`wtl evaluate --pretrained {found['experiment']}` makes the second table again, and compares.",
    ]
    return "\n\n".join(text)


def _gain(comparisons: list[results.Row]) -> str:
    found = next(c for c in comparisons if c["first"] == {"method": "watch_try_learn", "trials": 1})
    low, high = (100 * end for end in found["ci"])
    return (
        f"After one trial, its success minus that of one-shot imitation in the same {found['n']} scenes, all seeds "
        f"together: {100 * found['difference']:+.1f} points (95 % interval {low:+.1f} to {high:+.1f})."
    )


def _listed(seeds: list[int]) -> str:
    return ", ".join(map(str, seeds))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
