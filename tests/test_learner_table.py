"""The table of methods: a row says what its class does, and nothing else knows one method from another."""

import pytest

from watchtrylearn.data.sampling import Indexing
from watchtrylearn.learners import LEARNERS, LearnerEntry, learner_entry, make_learner
from watchtrylearn.suites import make_suite
from watchtrylearn.training.material import Sourced
from watchtrylearn.types import Adaptive, Learner, Successor, WtlError

SPEC = make_suite("toy").spec


@pytest.mark.parametrize("entry", LEARNERS, ids=lambda entry: entry.name)
def test_a_row_is_of_its_class(entry: LearnerEntry) -> None:
    learner = make_learner(entry.name, SPEC)
    assert learner.name == entry.name
    assert type(learner.config) is entry.config
    assert isinstance(learner, Learner)
    assert isinstance(learner, Adaptive)
    assert (entry.starts_from is not None) == isinstance(learner, Successor)
    assert entry.has_source == isinstance(learner, Sourced)
    assert isinstance(entry.sampling(learner.config), Indexing)
    assert (entry.image_frames(learner.config) is not None) == (entry.name in ("mil", "lstm"))
    assert entry.label
    assert entry.summary


def test_names_and_labels_are_unique_and_an_unknown_name_is_refused() -> None:
    assert len({entry.name for entry in LEARNERS}) == len({entry.label for entry in LEARNERS}) == len(LEARNERS)
    with pytest.raises(WtlError, match="unknown learner 'oneshot'; did you mean 'one_shot'"):
        learner_entry("oneshot")
