"""Which held-out scenes a report shows, and how: what the method is about first, then honestly the rest."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from watchtrylearn.protocol import Attempt, Scene
from watchtrylearn.results import Row, in_conflict, outcome, paired
from watchtrylearn.suites import Suite
from watchtrylearn.tables import percent
from watchtrylearn.types import Episode

REST = ("at once", "not solved")  # shown in turn after one correction per family
KINDS = {  # of results.OUTCOMES, for the reader
    "corrected": "the trial fails and the retrial succeeds",
    "at once": "both succeed",
    "not solved": "both fail",
    "lost again": "the trial succeeds and the retrial fails",
}
BADGES = {
    True: '<span class="badge yes">✓ success</span>',
    False: '<span class="badge no">✗ failure</span>',
}


@dataclass(frozen=True)
class Clip:
    """One attempt to look at: an MP4, a PNG for where that cannot play, the yes or no (None: not judged)."""

    label: str
    video: bytes | None
    poster: bytes | None
    success: bool | None
    note: str = ""


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


def pick_gallery(
    attempts: Sequence[Attempt], suite: Suite, count: int = 8, method: str = "watch_try_learn"
) -> list[Pick]:
    """Up to ``count`` scenes, sorted by family: what a report should show, and nothing twice.

    Every family first gives a scene where the readings disagree, the trial fails and the retrial succeeds;
    then the families in turn give a success at once and a failure of both. A family without the wanted kind
    gives its next best. This is a choice for the eye: the report states beside it how often each kind occurs
    (``results.outcomes``). Deterministic: within a kind the scenes keep their order, unseen tasks first.
    """
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
    return sorted(chosen, key=lambda pick: families.index(pick.scene.task.family))


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
    """The card of a pick, from (mp4, png) of its demonstration, trial and retrial."""
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


# --------------------------------------------------------------------------------------------------- the page


def section(cards: Sequence[Card], outcomes: Sequence[Row]) -> str:
    """The gallery as HTML: filters and a card per scene. ``outcomes`` (``results.outcomes``) may be empty."""
    if not cards:
        return ""
    return (
        '<section aria-labelledby="gallery"><h2 id="gallery">Demonstration, trial, retrial</h2>'
        f"<p>{_choice(outcomes).replace(' %', '&nbsp;%')}</p>"
        f'<div class="toolbar" role="group" aria-label="Show families">{_filters(cards)}'
        '<button type="button" id="pause" aria-pressed="false">Pause clips</button></div>'
        f'<div class="gallery">{"".join(map(_card, cards))}</div></section>'
    )


def _filters(cards: Sequence[Card]) -> str:
    """One button for all families, and one for each."""
    families = Counter(card.family for card in cards)
    return "".join(
        f'<button type="button" data-filter="{escape(value)}" aria-pressed="{str(not value).lower()}">'
        f"{escape(value or 'all')} ({count})</button>"
        for value, count in [("", len(cards)), *families.items()]
    )


def _choice(outcomes: Sequence[Row]) -> str:
    """What the choice shows, and how often each kind occurs in all scenes."""
    text = (
        "Scenes of held-out tasks, chosen to show what can happen. Trial and retrial share one scene; "
        "the demonstration comes from another."
    )
    if not outcomes:
        return text
    return f"{text} Over all {outcomes[0]['n']} scenes: {'; '.join(map(_share, outcomes))}."


def _share(row: Row) -> str:
    disputed = row["conflict_share"]
    more = "" if disputed is None else f" ({percent(disputed)} % where the readings disagree)"
    return f"<strong>{percent(row['share'])} %</strong> {KINDS[row['kind']]}{more}"


def _card(card: Card) -> str:
    chips = [
        ("", card.family),
        ("", card.task),
        *([(" split", "the readings disagree here")] * card.conflict),
    ]
    shown = "".join(f'<span class="chip{kind}">{escape(text)}</span>' for kind, text in chips)
    sentence = f"“{card.sentence[:1].upper()}{card.sentence[1:]}”"
    return (
        f'<article class="panel" data-family="{escape(card.family)}"><h3>{escape(sentence)}</h3>'
        f'<div class="chips">{shown}</div>'
        f'<div class="clips">{"".join(_clip(clip, card.sentence) for clip in card.clips)}</div>'
        f'<p class="verdict">{escape(card.verdict)}</p></article>'
    )


def _clip(clip: Clip, sentence: str) -> str:
    badge = "" if clip.success is None else f"<br>{BADGES[clip.success]}"
    note = f"<br>{escape(clip.note)}" if clip.note else ""
    caption = f"<figcaption>{escape(clip.label)}{badge}{note}</figcaption>"
    return f'<figure class="clip">{_picture(clip, escape(f"{clip.label}: {sentence}"))}{caption}</figure>'


def _picture(clip: Clip, name: str) -> str:
    """The clip, the still where there is no clip, or the words that there is neither."""
    still = "" if clip.poster is None else f"data:image/png;base64,{_base64(clip.poster)}"
    if clip.video is None:
        return f'<img alt="{name}" src="{still}">' if still else '<div class="none">not recorded</div>'
    poster = f' poster="{still}"' if still else ""
    return (
        f'<video muted loop playsinline controls preload="auto" aria-label="{name}"{poster} '
        f'src="data:video/mp4;base64,{_base64(clip.video)}"></video>'
    )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
