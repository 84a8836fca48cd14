"""``wtl reproduce``: which tables there are, and what becomes of one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from watchtrylearn.errors import suggestion
from watchtrylearn.experiments import main_job, wtl_curves, wtl_few_tasks, wtl_reacher, wtl_state
from watchtrylearn.experiments.beside import how_many
from watchtrylearn.experiments.presets import experiment
from watchtrylearn.system.progress import Display
from watchtrylearn.types import WtlError

TABLES = {
    "wtl-state": wtl_state.reproduce,
    "wtl-curves": wtl_curves.reproduce,
    "wtl-few-tasks": wtl_few_tasks.reproduce,
    "wtl-reacher": wtl_reacher.reproduce,
    "debug": wtl_state.reproduce,
}


def reproduce(
    name: str, settings: Sequence[str], out: Path | None, results: Path | None, processes: int | None, device: str
) -> None:
    """Makes the table ``name`` in ``out``, after every seed, and publishes it when it is complete and unchanged."""
    if name not in TABLES:
        raise WtlError(f"cannot reproduce {name!r}; {suggestion(name, TABLES)}")
    display = Display()
    chosen = experiment(name, settings)
    if chosen.seed:
        raise WtlError("`wtl reproduce` runs seeds of its own; leave out seed")
    folder = out or Path("runs") / name
    for document in TABLES[name](chosen, folder, display, how_many(processes), device):
        main_job.publish(document, folder / "results.json", display)
    if results or not (settings or name == "debug"):
        main_job.write(document, (results or Path("benchmarks/results")) / f"{name}.json", display)
