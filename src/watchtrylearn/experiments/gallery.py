"""The report's gallery: which held-out scenes are shown, and their clips."""

from __future__ import annotations

from collections.abc import Sequence

from watchtrylearn.experiments.run import Run
from watchtrylearn.gallery import Card, card, pick_gallery
from watchtrylearn.protocol import Attempt
from watchtrylearn.types import WtlError


def cards(run: Run, attempts: Sequence[Attempt]) -> list[Card]:
    """The chosen scenes of the evaluation with their clips (none for a suite that cannot be filmed)."""
    if run.suite.name != "tabletop" or run.experiment.gallery == 0:
        return []
    try:
        from watchtrylearn.suites.film import film
        from watchtrylearn.suites.render import encode_png, encode_video
        from watchtrylearn.suites.tabletop import Tabletop
    except ModuleNotFoundError as error:
        raise WtlError(f"the clips need {error.name}: pip install 'watchtrylearn[sim]'") from error
    assert isinstance(run.suite, Tabletop)
    picks = pick_gallery(attempts, run.suite, run.experiment.gallery)
    episodes = [episode for pick in picks for episode in pick.episodes]
    with run.display.track("filming", 2 * len(episodes)) as advance:
        frames = film(run.suite, episodes)
        advance(len(episodes), "encoding")
        clips = []
        for images in frames:
            clips.append((encode_video(images, run.suite.spec.fps), encode_png(images[-1])))
            advance()
    return [card(pick, clips[3 * i : 3 * i + 3]) for i, pick in enumerate(picks)]
