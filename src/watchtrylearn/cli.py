"""The command line, ``wtl``: show a robot one demonstration, let it try, tell it yes or no, and it learns.

Every verb works on a run directory (--out) and continues there where it stopped. Exit status: 0 done, 2 a problem
you can act on (one sentence says which), 130 or 143 stopped by Ctrl-C or SIGTERM with everything saved, 141 stopped
like that because nobody reads the output any more.

`wtl --version` tells the version. `eval "$(wtl --completion bash)"` (or zsh) teaches your shell to complete commands.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from watchtrylearn.errors import WtlError
from watchtrylearn.system.arguments import refuse_unknown, with_default
from watchtrylearn.system.ending import CLOSED_PIPE as CLOSED_PIPE
from watchtrylearn.system.ending import exit_status

# Nothing heavy is imported before a verb runs: help is instant.

app = tyro.extras.SubcommandApp()
data_app = tyro.extras.SubcommandApp()

Out = Annotated[Path, tyro.conf.arg(help="The run directory.")]
Preset = Annotated[str | None, tyro.conf.arg(help="Experiment to begin; see `wtl list`.")]
Settings = Annotated[
    tuple[str, ...],
    tyro.conf.arg(name="set", help="Change options of the experiment, e.g. demos_per_task=4 one_shot.train.steps=100."),
]
Suite = Annotated[
    str | None,
    tyro.conf.arg(
        metavar="MODULE:FUNCTION", help="A suite of your own: the function that makes it, in a module or a file.py."
    ),
]
Device = Annotated[str, tyro.conf.arg(help="Where networks are trained and act: cpu or cuda.")]
SkipBad = Annotated[bool, tyro.conf.arg(help="Leave out damaged episode files (each is named) instead of stopping.")]
Learner = Annotated[
    tyro.conf.Positional[str],
    tyro.conf.arg(metavar="LEARNER", help="A method of the experiment, or any learner of `wtl list`."),
]
Dataset = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PATH", help="The dataset's folder.")]
AnyDataset = Annotated[
    tyro.conf.Positional[Path],
    tyro.conf.arg(metavar="PATH", help="A folder, or a Hub name that is in the local cache."),
]
Processes = Annotated[
    int | None,
    tyro.conf.arg(
        help="2: methods that need nothing of each other are trained side by side; 1: one after the other, with the "
        "same results. 2 unless there is but one processor core."
    ),
]
DEMO = Path("runs/demo")
OWN = "own_data.json"  # in a run directory: it is one on recordings from elsewhere
PRETRAINED = "wtl-state"  # what a bare --pretrained of `wtl demo` means


@app.command
def demo(
    out: Annotated[Path | None, tyro.conf.arg(help="The run directory; runs/PRESET unless given.")] = None,
    preset: Annotated[str, tyro.conf.arg(help="Experiment to run.")] = "demo",
    suite: Suite = None, settings: Settings = (), skip_bad: SkipBad = False,
    pretrained: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="[NAME]", help=f"Train nothing: new tasks for the weights NAME ({PRETRAINED} unless given)."
        ),
    ] = None,
    processes: Processes = None, device: Device = "cpu",
) -> None:  # fmt: skip
    """Watch, try, learn, from nothing to a report: record, train, try, train, evaluate, report.

    Prints the table of methods and writes results.json and report.html into the run directory (runs/PRESET unless
    told otherwise). Takes about five minutes on two processor cores; stop it at any time, the same command continues.
    With --pretrained it takes a minute: a few new tasks, a line for each scene, and the report.
    """
    if pretrained is not None:
        from watchtrylearn.experiments import pretrained as shipped
        from watchtrylearn.system.progress import Display

        if settings or skip_bad or suite or preset != "demo":
            raise WtlError(
                "--pretrained goes without --preset, --set and --skip-bad, nor --suite: weights bring their experiment"
            )
        return shipped.demo(pretrained, out, Display(), device)
    from watchtrylearn.experiments import main_job
    from watchtrylearn.experiments.beside import how_many

    with _opened(out or Path("runs") / preset, preset, settings, suite, skip_bad, device) as run:
        main_job.everything(run, how_many(processes))


@app.command
def record(out: Out = DEMO, preset: Preset = None, suite: Suite = None, settings: Settings = ()) -> None:
    """Record demonstrations of the training tasks with the suite's scripted demonstrator.

    Only successful demonstrations are stored (RUN/demos, a LeRobot v3.0 dataset); failures are counted.
    """
    from watchtrylearn.experiments import main_job

    with _opened(out, preset, settings, suite) as run:
        main_job.record(run)


@app.command
def train(
    learner: Learner,
    out: Annotated[
        Path | None, tyro.conf.arg(help="The run directory; runs/demo unless given, or runs/DATASET.")
    ] = None,
    data: Annotated[
        tuple[str, ...],
        tyro.conf.arg(metavar="DATASET...", help="LeRobot v3.0 datasets to learn from: folders, or cached Hub names."),
    ] = (),
    settings: Annotated[
        tuple[str, ...],
        tyro.conf.arg(name="set", help="With --data: options, e.g. every=3 train.steps=500; see docs/your-data.md."),
    ] = (),
    suite: Suite = None,
    skip_bad: SkipBad = False,
    device: Device = "cpu",
) -> None:
    """Train a learner from the run's demonstrations and trials, or with --data from recordings of your own.

    Writes config, metrics (JSONL and TensorBoard), checkpoints and model.safetensors into RUN/LEARNER. With --data,
    some tasks are held out, and RUN/results.json says how well their actions are predicted after one demonstration.
    """
    folder = out or (Path("runs") / Path(data[0]).name if data else DEMO)
    if data or (folder / OWN).exists():
        return _on_own_data(folder, device, learner, data, settings, skip_bad)
    if settings:
        raise WtlError("--set needs --data here; the settings of an experiment are given when it begins")
    from watchtrylearn.experiments import main_job

    with _opened(folder, None, (), suite, skip_bad, device) as run:
        main_job.train(run, learner)


@app.command(name="try")
def try_(
    out: Out = DEMO,
    policy: Annotated[
        str | None, tyro.conf.arg(help="The method that tries; the experiment's first that does, unless given.")
    ] = None,
    suite: Suite = None,
    skip_bad: SkipBad = False,
    device: Device = "cpu",
) -> None:
    """Run the trial policy on the training tasks in batch and store its trials with their outcomes."""
    from watchtrylearn.experiments import main_job

    with _opened(out, None, (), suite, skip_bad, device) as run:
        main_job.try_(run, policy)


@app.command
def evaluate(
    out: Annotated[
        Path | None, tyro.conf.arg(help="The run directory; runs/demo unless given, or runs/pretrained-NAME.")
    ] = None,
    pretrained: Annotated[
        str | None, tyro.conf.arg(metavar="NAME", help=f"Weights that come with the package, e.g. {PRETRAINED}.")
    ] = None,
    against: Annotated[
        Path | None, tyro.conf.arg(help="Another evaluated run: compare each method with its own, scene by scene.")
    ] = None,
    suite: Suite = None,
    device: Device = "cpu",
) -> None:
    """Evaluate every trained learner on held-out tasks, all on the same scenes; print the table.

    With --pretrained: the learners NAME that come with the package, on the full test table of their experiment, and
    whether each published rate is found again. With --against: each method's success minus its success in that run
    instead, with paired 95 % intervals over tasks; refused unless both were evaluated in the same scenes after the
    same demonstrations.
    """
    if pretrained is not None:
        from watchtrylearn.experiments import pretrained as shipped
        from watchtrylearn.system.progress import Display

        if against is not None:
            raise WtlError("--pretrained and --against exclude each other")
        return shipped.evaluate(pretrained, out, Display(), device)
    from watchtrylearn.experiments import main_job

    folder = out or DEMO
    if against is None and (folder / OWN).exists():
        return _on_own_data(folder, device)
    if against is not None and against.resolve() == folder.resolve():
        raise WtlError(f"--against {against} is the run itself")
    with _opened(folder, None, (), suite, device=device) as run:
        if against is None:
            return main_job.assess(run)
        with _opened(against, None, (), suite) as other:
            main_job.compare(run, other)


@app.command
def report(out: Out = DEMO, suite: Suite = None) -> None:
    """Write RUN/report.html: the table, the plots, and clips of demonstration, trial and retrial."""
    from watchtrylearn.experiments import main_job

    with _opened(out, None, (), suite) as run:
        main_job.show(run)


@app.command
def reproduce(
    name: Annotated[
        tyro.conf.Positional[str],
        tyro.conf.arg(metavar="NAME", help="wtl-state, wtl-curves, wtl-few-tasks, wtl-reacher, or debug (small)."),
    ],
    out: Annotated[Path | None, tyro.conf.arg(help="The directory of its runs; runs/NAME unless given.")] = None,
    settings: Settings = (),
    results: Annotated[
        Path | None, tyro.conf.arg(help="Folder for NAME.json; benchmarks/results unless settings were changed.")
    ] = None,
    processes: Processes = None,
    device: Device = "cpu",
) -> None:
    """Reproduce a table of the papers: all methods, all seeds; print it, and when all is done write RESULTS/NAME.json.

    One run directory per seed (and amount of data), and OUT/results.json with all seeds so far after each; stop it at
    any time, the same command continues. `wtl reproduce debug` makes the table of wtl-state on point tasks without
    physics, in minutes.
    """
    from watchtrylearn.experiments import reproduction

    reproduction.reproduce(name, settings, out, results, processes, device)


@app.command(name="list")
def list_() -> None:
    """List suites, learners and experiments."""
    from watchtrylearn.experiments import EXPERIMENTS
    from watchtrylearn.learners import learner_names
    from watchtrylearn.suites import suite_names

    print("suites:      " + ", ".join(suite_names()))
    print("learners:    " + ", ".join(learner_names()))
    print("experiments:")
    for entry in EXPERIMENTS:
        print(f"  {entry.name:<13} {entry.summary} (suite {entry.suite})")


@app.command
def data() -> None:
    """Look after a dataset: `wtl data inspect PATH`, `wtl data verify PATH`."""
    raise WtlError("say what to do: `wtl data inspect PATH` or `wtl data verify PATH`")


@data_app.command(name="inspect")
def data_inspect(path: AnyDataset) -> None:
    """What a dataset holds: episodes by kind, family and split (or by task, if LeRobot wrote it), success, lengths."""
    from rich.table import Table

    from watchtrylearn.data.verify import inspect as summarise
    from watchtrylearn.system.progress import PipedConsole

    found = summarise(path)
    table = Table(title=f"{found.path}: {found.episodes} episodes, {found.steps} steps, {found.size / 1e6:.1f} MB")
    left = ("kind", found.by, "split")
    for heading in (*left, *(("tasks",) if found.by == "family" else ()), "episodes", "success", "steps"):
        table.add_column(heading, justify="left" if heading in left else "right", overflow="fold")
    for group in found.groups:
        success = f"{100 * group.success_rate:.1f} %" + (f", {group.diverged} diverged" if group.diverged else "")
        lengths = f"{group.shortest} to {group.longest}, mean {group.mean_length:.1f}"
        tasks = (str(group.tasks),) if found.by == "family" else ()
        table.add_row(group.kind, group.family, group.split, *tasks, str(group.episodes), success, lengths)
    PipedConsole().print(table)
    for name, channel in [*found.header.spec.numbers.items(), ("action", found.header.spec.action)]:
        print(f"{name}: {', '.join(channel.names)}")
    for name, camera in found.header.spec.images.items():
        print(f"{name}: {camera}")
    for sentence in found.notes:
        print(sentence)


@data_app.command(name="verify")
def data_verify(
    path: Dataset,
    rebuild: Annotated[
        bool, tyro.conf.arg(help="First rewrite the index (info, tasks, statistics) from the episodes.")
    ] = False,
) -> None:
    """Check a dataset file by file; name every problem with its file, episode and field. Exit status 2 if any."""
    from watchtrylearn.data.verify import rebuild_index, verify

    if rebuild:
        rebuild_index(path)
    problems = verify(path)
    for problem in problems:
        print(problem)
    if problems:
        raise SystemExit(2)
    print(f"{path}: no problems found")


VERBS: dict[str, Callable[..., None]] = {
    "demo": demo, "record": record, "train": train, "try": try_, "evaluate": evaluate, "report": report,
    "list": list_, "data": data, "reproduce": reproduce,
}  # fmt: skip
NEEDED = {
    "--set": "at least one NAME=VALUE",
    "--data": "at least one dataset",
    "--pretrained": f"a name, e.g. {PRETRAINED}",
}
DATA_VERBS: dict[str, Callable[..., None]] = {"inspect": data_inspect, "verify": data_verify}


def _opened(
    out: Path,
    preset: str | None,
    settings: tuple[str, ...] = (),
    suite: str | None = None,
    skip_bad: bool = False,
    device: str = "cpu",
) -> Any:
    """The run in ``out``: begun from ``preset`` with ``settings`` in ``suite``, or continued."""
    from watchtrylearn.experiments import experiment
    from watchtrylearn.experiments.run import open_run
    from watchtrylearn.system.progress import Display

    if (out / OWN).exists():
        raise WtlError(f"{out} is a run on recordings from elsewhere, without a simulator; it knows train and evaluate")
    if settings and preset is None:
        raise WtlError("--set needs --preset: it changes the experiment that --preset names")
    chosen = None if preset is None else experiment(preset, settings, suite)
    return open_run(out, chosen, Display(), suite=suite, skip_bad=skip_bad, device=device)


def _on_own_data(
    out: Path,
    device: str,
    learner: str | None = None,
    data: tuple[str, ...] = (),
    settings: tuple[str, ...] = (),
    skip: bool = False,
) -> None:
    """Trains ``learner``, if one is given, on recordings from elsewhere; then evaluates what is trained in ``out``."""
    from watchtrylearn.experiments import own_data
    from watchtrylearn.learners import learner_entry
    from watchtrylearn.system.config import override
    from watchtrylearn.system.progress import Display

    if learner is not None:
        learner_entry(learner)  # refuses an unknown name
    chosen = override(own_data.OwnData(), settings, "training on own data") if settings else None
    with own_data.open_run(out, data, chosen, Display(), skip_bad=skip, device=device) as run:
        if learner is not None:
            own_data.train(run, learner)
        own_data.assess(run)


def main(argv: list[str] | None = None) -> int:
    """Runs the command; a problem the user can act on becomes one sentence and exit status 2."""
    arguments = with_default(sys.argv[1:] if argv is None else argv, "demo", "--pretrained", PRETRAINED)
    return exit_status("wtl", lambda: _obey(arguments))


def _obey(arguments: Sequence[str]) -> None:
    if arguments == ["--version"]:
        from watchtrylearn import __version__

        print(f"wtl {__version__}")
    elif arguments[:1] == ["--completion"]:
        print(_completion(arguments[1:]), end="")
    elif arguments[:1] == ["data"] and len(arguments) > 1:
        refuse_unknown(arguments[1:], DATA_VERBS, "wtl data", NEEDED)
        data_app.cli(prog="wtl data", args=arguments[1:])
    else:
        refuse_unknown(arguments, VERBS, "wtl", NEEDED)
        app.cli(prog="wtl", description=__doc__, args=arguments)


def _completion(arguments: Sequence[str]) -> str:
    """The completion script of the shell that ``arguments`` name."""
    from watchtrylearn.experiments import EXPERIMENTS
    from watchtrylearn.experiments.reproduction import TABLES
    from watchtrylearn.experiments.run import DEVICES
    from watchtrylearn.learners import learner_names
    from watchtrylearn.system.completion import SHELLS, script

    if len(arguments) != 1 or arguments[0] not in SHELLS:
        raise WtlError(f"--completion needs a shell: {' or '.join(SHELLS)}")
    words = {
        "learner": learner_names(), "name": list(TABLES), "policy": EXPERIMENTS[0].explorers,
        "preset": [entry.name for entry in EXPERIMENTS], "pretrained": [PRETRAINED], "settings": [], "device": DEVICES,
    }  # fmt: skip
    return script(arguments[0], VERBS, {"data": DATA_VERBS}, words)


if __name__ == "__main__":
    sys.exit(main())
