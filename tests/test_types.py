"""The nouns of the library: what they refuse, and how they show themselves."""

import subprocess
import sys
from pathlib import Path

import pytest

from data_episodes import SPEC, make_episode
from watchtrylearn.data.layout import Header
from watchtrylearn.data.parquet import encode
from watchtrylearn.data.records import data_columns, episodes_table, read_records, records_of
from watchtrylearn.suites import make_suite

DEMO = make_suite("toy").demonstrate(make_suite("toy").tasks("test")[0], 3)


def test_an_episode_shows_itself_in_one_line():
    assert repr(DEMO) == "<demo of 'reference-test-000' in scene 3: 4 steps, success>"
    assert len(repr([DEMO] * 3).splitlines()) == 1


REFUSED = [
    ("wtl.Context(demos=demo)", "a context's demos are a list of episodes, not one episode: Context(demos=[episode])"),
    ("wtl.Context(trials=demo)", "a context's trials are a list of episodes, not one episode"),
    ("wtl.Context(demos=[1, 2])", "a context's demos are a list of episodes, not [1, 2]"),
    ("wtl.Context(demos=iter([demo]))", "a context's demos are a list of episodes, not <list_iterator"),
    (
        "learner.adapt(wtl.Context(demos=[demo]))",
        "a learner adapts to a list of contexts, one per world, not to one context: adapt([context])",
    ),
    ("learner.adapt(demo)", "a learner adapts to contexts, not to an episode: adapt([Context(demos=[episode])])"),
    ("learner.explore([demo])", "a learner adapts to contexts, not to <demo of 'reference-test-000' in scene 3"),
    ("dataclasses.replace(demo, success='no')", "an episode's success is True or False, not 'no'"),
    ("dataclasses.replace(demo, terminated=1)", "an episode's terminated is True or False, not 1"),
    (
        "wtl.fit(learner, print, wtl.TrainConfig(), 'nowhere', {})",
        "a training takes its batches from a source, such as FixedSource(sample), not from <built-in function print>",
    ),
    ("dataclasses.replace(demo, kind='try')", "an episode is of kind 'demo' or 'trial', not 'try'"),
]

SCRIPT = """
import dataclasses
import watchtrylearn as wtl

suite = wtl.make_suite("toy")
demo = suite.demonstrate(suite.tasks("test")[0], 3)
learner = wtl.make_learner("watch_try_learn", suite.spec)
learner.adapt([wtl.Context(demos=[demo])])
for line in {lines!r}:
    try:
        eval(line)
        print("nothing happened")
    except wtl.WtlError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def answers() -> list[str]:
    """What the library says in a process where nothing else checks types."""
    script = SCRIPT.format(lines=[line for line, _ in REFUSED])
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.splitlines()


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=[line for line, _ in REFUSED])
def test_what_cannot_be_meant_is_refused_in_one_sentence(number, answers):
    assert answers[number].startswith(REFUSED[number][1])


def test_records_of_before_the_difference_was_noted_still_read():
    episodes = [make_episode(n) for n in range(4)]
    header = Header("test", SPEC)
    columns = data_columns(episodes, header, (0, 0), [0] * 4)
    table = episodes_table(records_of(episodes, 0, (0, 0)), episodes, columns)
    assert [r.terminated for r in read_records(encode(table), 0, Path("new"))] == [e.terminated for e in episodes]
    old = read_records(encode(table.drop_columns("terminated")), 0, Path("old"))
    assert [r.terminated for r in old] == [False] * 4
    assert [r.success for r in old] == [e.success for e in episodes]
