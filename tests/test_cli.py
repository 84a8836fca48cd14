"""The command line itself: versions, suggestions, completion, and readers that go away."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import watchtrylearn
from watchtrylearn import cli

TINY = ("bc.train.steps=40", "one_shot.train.steps=40", "trials_only.train.steps=40", "watch_try_learn.train.steps=40")


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"wtl {watchtrylearn.__version__}\n"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["version"], "no verb 'version'; did you mean '--version'?"),
        (["frobnicate"], "no verb 'frobnicate'; known: demo, record, train, try, evaluate, report, list, data"),
        (["evalute"], "did you mean 'evaluate'?"),
        (["data", "zzz"], "no verb 'zzz'; known: inspect, verify"),
        (["demo", "--quickly"], "no option '--quickly'; known: --help, --out, --preset"),
        (["demo", "--outt", "x"], "did you mean '--out'?"),
        (["reproduce", "something"], "known: wtl-state, wtl-curves, wtl-few-tasks, wtl-reacher, debug"),
        (["demo", "--preset", "everything"], "unknown experiment 'everything'; known: demo, "),
        (["--completion", "tcsh"], "--completion needs a shell: bash or zsh"),
    ],
)
def test_only_close_words_are_suggested(command: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(command) == 2
    assert sentence in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------- completion


@pytest.fixture(scope="module")
def completed(tmp_path_factory: pytest.TempPathFactory):
    """What bash offers for a command line that ends in TAB, in a folder that holds the folder runs/."""
    if not shutil.which("bash"):
        pytest.skip("there is no bash")
    folder = tmp_path_factory.mktemp("completion")
    (folder / "runs").mkdir()
    script = folder / "wtl.bash"
    with script.open("w") as file:
        command = [sys.executable, "-m", "watchtrylearn.cli", "--completion", "bash"]
        subprocess.run(command, stdout=file, check=True)

    def offer(line: str) -> list[str]:
        words = line.split(" ")
        asked = f'source {script}; COMP_WORDS=("$@"); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _wtl; '
        asked += 'echo "${COMPREPLY[@]}"'
        done = subprocess.run(
            ["bash", "-c", asked, "bash", *words], cwd=folder, capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        return done.stdout.split()

    return offer


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("wtl tr", ["train", "try"]),
        ("wtl data ", ["inspect", "verify"]),
        ("wtl train o", ["one_shot"]),
        ("wtl train --skip-bad wat", ["watch_try_learn"]),
        ("wtl reproduce wtl-s", ["wtl-state"]),
        ("wtl record --preset d", ["demo", "debug"]),
        ("wtl try --policy ", ["one_shot", "bc"]),
        ("wtl evaluate --a", ["--against"]),
        ("wtl report --out r", ["runs"]),
        ("wtl data verify r", ["runs"]),
        ("wtl data verify --r", ["--rebuild"]),
        ("wtl --v", ["--version"]),
        ("wtl nothing x", []),
    ],
)
def test_the_shell_completes_verbs_options_and_the_words_after_them(completed, line: str, words: list[str]) -> None:
    assert completed(line) == words


# ------------------------------------------------------------------------------------------------------ closed pipes

EAGER = "import sys, watchtrylearn.system.progress as p; p._LINES = 0.0; from watchtrylearn import cli; sys.exit(cli.main())"  # noqa: E501


def test_a_reader_that_goes_away_stops_a_run_with_everything_saved_and_the_same_command_continues(
    tmp_path: Path,
) -> None:
    """``wtl demo 2>&1 | head``: the reader is gone long before training ends."""
    settings = ["--set", *TINY, "tasks=4", "eval_tasks=2", "scenes=2", "one_shot.train.steps=100000"]
    arguments = ["demo", "--preset", "debug", "--out", str(tmp_path / "run"), *settings]
    read, write = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-c", EAGER, *arguments], stdout=write, stderr=write, start_new_session=True
    )
    os.close(write)
    with os.fdopen(read) as lines:
        for line in lines:
            if line.startswith("training one_shot"):
                break
    assert child.wait(timeout=60) == cli.CLOSED_PIPE
    again = subprocess.Popen(
        [sys.executable, "-c", EAGER, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert again.stderr is not None
    first = next(line for line in again.stderr if line.startswith("training one_shot"))
    again.terminate()
    again.communicate(timeout=60)
    assert again.returncode == 143
    assert int(first.split(": ")[1].split("/")[0]) > 1, first


def test_a_reader_that_has_seen_enough_of_a_list_is_no_problem() -> None:
    command = f"{sys.executable} -m watchtrylearn.cli list | head -0; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == ([str(cli.CLOSED_PIPE)], "")
