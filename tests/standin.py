"""Stand-in weights: two untrained learners in a finished run, shipped into a folder as real ones are."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from watchtrylearn.experiments import experiment
from watchtrylearn.experiments.pretrained import LEARNERS, attempts, rows
from watchtrylearn.experiments.run import Run, open_run
from watchtrylearn.learners import make_learner
from watchtrylearn.reporting import results
from watchtrylearn.system.files import write_json
from watchtrylearn.system.progress import Display
from watchtrylearn.training import checkpoint

ROOT = Path(__file__).parents[1]
SMALL = ["eval_tasks=4", "scenes=2", "attempts=2", "net.width=16", "net.hidden=[32]"]


def script(name: str) -> ModuleType:
    """A script of benchmarks/, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def ship(folder: Path) -> Path:
    """Makes folder/run and folder/wtl-state.json, and ships them into folder/pretrained, which is returned."""
    chosen = experiment("wtl-state", SMALL)
    with open_run(folder / "run", chosen, Display(quiet=True)) as run:
        _save_untrained(run)
        for step in ("train one_shot", "train watch_try_learn"):
            run.note_seconds(step, 90.0)
        write_json(folder / "wtl-state.json", _document(run))
    script("pretrain").main(folder / "run", folder / "wtl-state.json", folder / "pretrained")
    return folder / "pretrained"


def _save_untrained(run: Run) -> None:
    """Saves what training would save: Watch-Try-Learn's trial policy is one-shot imitation."""
    one_shot, both = (make_learner(name, run.suite.spec, run.experiment.methods[name].config) for name in LEARNERS)
    both.start_from(one_shot)
    for learner in (one_shot, both):
        meta = {
            "learner": learner.name,
            "config": dataclasses.asdict(learner.config),
            "spec": learner.spec.to_json(),
            "train": dataclasses.asdict(run.experiment.methods[learner.name].train),
        }
        folder = run.directory / learner.name
        checkpoint.save_model(folder, learner.state_dict(), json.loads(json.dumps(meta)))


def _document(run: Run) -> dict[str, Any]:
    made = attempts(run)
    told = results.rows(made, run.suite, [("one_shot", 0)], target="told", ceiling=1.0)
    return results.document(
        run.experiment.name,
        command="wtl reproduce wtl-state",
        seeds=[run.experiment.seed],
        seconds={},
        rows=rows(made, run) + told,
        comparisons=results.comparisons(made, [(("watch_try_learn", 1), ("one_shot", 0))], run.suite),
    )
