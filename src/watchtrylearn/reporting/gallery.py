"""Which held-out scenes a report shows, and how: what the method is about first, then honestly the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from watchtrylearn.protocol import Attempt, Scene
from watchtrylearn.reporting.results import in_conflict, outcome, paired, retrial_of
from watchtrylearn.suites import Suite
from watchtrylearn.types import Episode

REST = ("at once", "not solved")  # shown in turn after one correction per family


@dataclass(frozen=True)
class Clip:
    """One attempt to look at: an MP4, a JPEG to show before it plays, the yes or no (None: not judged)."""

    label: str
    video: bytes | None
    poster: bytes | None
    success: bool | None


@dataclass(frozen=True)
class Card:
    """One held-out scene in the gallery: what was to be done, the clips side by side, and what they show."""

    sentence: str
    family: str
    task: str
    clips: tuple[Clip, ...]
    conflict: bool
    verdict: str


@dataclass(frozen=True)
class Pick:
    """A scene chosen for the gallery, with the first two attempts in it."""

    scene: Scene
    trial: Attempt
    retrial: Attempt
    conflict: bool
    kind: str

    @property
    def episodes(self) -> tuple[Episode, Episode, Episode]:
        """Demonstration, trial, retrial: what there is to render."""
        return self.scene.demos[0], self.trial.episode, self.retrial.episode

    @property
    def verdict(self) -> str:
        """What one sees, in a sentence that claims nothing the numbers do not show."""
        other = self.conflict and _acted_on_other(self.trial.episode)
        again = other and _acted_on_other(self.retrial.episode)
        if self.kind == "corrected":
            failure = "takes the other reading" if other else "fails"
            return f"The trial {failure}; the retrial{' corrects it' if other else ', knowing so, succeeds'}."
        if self.kind == "at once":
            right = "takes the right reading at once" if self.conflict else "succeeds at once"
            return f"The trial {right}; the retrial succeeds again."
        if self.kind == "not solved":
            return "Both attempts take the wrong reading." if again else "Both attempts fail."
        return "The trial succeeds; the retrial, although told so, fails."


def _acted_on_other(episode: Episode) -> bool:
    """Do the suite's terms say that the attempt acted on the wrong one (``other_...`` none of them true)?"""
    spared = [value for name, value in episode.terms.items() if name.startswith("other_")]
    return bool(spared) and not any(spared)


def pick_gallery(attempts: Sequence[Attempt], suite: Suite, count: int = 8, method: str | None = None) -> list[Pick]:
    """Up to ``count`` scenes: what a report should show, and nothing twice; the first tells the story.

    Every family first gives a scene where the readings disagree, the trial fails and the retrial succeeds;
    then the families in turn give a success at once and a failure of both. A family without the wanted kind
    gives its next best. This is a choice for the eye: the report states beside it how often each kind occurs
    (``results.outcomes``). The story is one of the first kind, the others follow by family. Deterministic: within
    a kind the scenes keep their order, unseen tasks first. ``method``: ``retrial_of(attempts)`` unless given.
    """
    method = method or retrial_of(attempts)
    pairs = paired(attempts, (method, 0), (method, 1))
    left = [
        Pick(trial.scene, trial, retrial, in_conflict(trial.scene, suite), outcome(trial, retrial))
        for trial, retrial in pairs
        if trial.scene.demos
    ]
    families = list(dict.fromkeys(pick.scene.task.family for pick in left))
    chosen: list[Pick] = []
    for family, wanted in _wishes(families, len(left)):
        mine = [pick for pick in left if pick.scene.task.family == family]
        if len(chosen) < count and mine:
            best = _best(mine, wanted, {pick.scene.task.name for pick in chosen})
            left.remove(best)
            chosen.append(best)
    if not chosen:
        return []
    story = _best(chosen, "corrected", set())
    return [story, *sorted((p for p in chosen if p is not story), key=lambda p: families.index(p.scene.task.family))]


def _wishes(families: Sequence[str], rounds: int) -> Iterator[tuple[str, str]]:
    """(family, kind) in the order in which the gallery fills."""
    for turn in range(rounds):
        for place, family in enumerate(families):
            yield family, "corrected" if turn == 0 else REST[(turn + place + 1) % len(REST)]


def _best(picks: Sequence[Pick], wanted: str, shown: set[str]) -> Pick:
    """The first of the wanted kind, in conflict, whose trial took the other reading, of a new task."""

    def faults(pick: Pick) -> tuple[bool, bool, bool, bool]:
        aimless = wanted == "corrected" and not _acted_on_other(pick.trial.episode)
        return pick.kind != wanted, not pick.conflict, aimless, pick.scene.task.name in shown

    return min(picks, key=faults)


def card(pick: Pick, clips: Sequence[tuple[bytes | None, bytes | None]]) -> Card:
    """The card of a pick, from (mp4, jpeg) of its demonstration, trial and retrial."""
    labels = ("demonstration", "trial", "retrial")
    judged = (None, pick.trial.episode.success, pick.retrial.episode.success)
    return Card(
        sentence=pick.scene.task.sentence,
        family=pick.scene.task.family,
        task=pick.scene.task.name,
        clips=tuple(
            Clip(name, video, poster, success)
            for name, success, (video, poster) in zip(labels, judged, clips, strict=True)
        ),
        conflict=pick.conflict,
        verdict=pick.verdict,
    )
