"""The report's gallery: which held-out scenes are shown, and their clips."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from watchtrylearn import suites
from watchtrylearn.experiments.evaluation import unpacked_attempts, unpacked_scenes
from watchtrylearn.experiments.run import Run
from watchtrylearn.protocol import Attempt
from watchtrylearn.reporting.gallery import Card, Pick, card, pick_gallery
from watchtrylearn.suites import Filmable
from watchtrylearn.system.files import contained, read_bytes, write_atomic
from watchtrylearn.system.progress import Advance
from watchtrylearn.types import WtlError

CLIPS = "clips"  # RUN/clips/DIGEST-0.mp4 and .jpg, -1, -2: demonstration, trial and retrial of one scene
LIMIT = 16 * 2**20  # bytes; a larger clip is not one of ours
MEDIA = ("mp4", "jpg")
OURS = re.compile(r"[0-9a-f]{32}-[0-2]\.(mp4|jpg)")  # whatever else is there is somebody's own


def cards(run: Run, attempts: Sequence[Attempt]) -> list[Card]:
    """The chosen scenes of the evaluation with their clips (none for a suite that cannot be filmed).

    Clips are kept in RUN/clips under the digest of what they show and how: nothing is filmed twice.
    """
    suite = run.suite
    if not isinstance(suite, Filmable) or run.experiment.gallery == 0:
        return []
    picks = {
        _digest(pick): pick
        for pick in pick_gallery(attempts, run.suite, run.experiment.gallery, run.experiment.retrial)
    }
    missing = [name for name in picks if not all(path.exists() for clip in _paths(run, name) for path in clip)]
    if missing:
        try:
            import watchtrylearn.suites.render  # noqa: F401
        except ModuleNotFoundError as error:
            raise WtlError(f"the clips need {error.name}: pip install 'watchtrylearn[sim]'") from error
        with run.display.track("filming", sum(len(picks[name].episodes) for name in missing)) as advance:
            for name in missing:
                _film(suite, run.suite.spec.fps, _unpacked(run, picks[name]), _paths(run, name), advance)
    kept = {path for name in picks for clip in _paths(run, name) for path in clip}
    for path in contained(run.directory, CLIPS).glob("*.*"):
        if path not in kept and OURS.fullmatch(path.name):  # of attempts, or by a camera, that are no more
            path.unlink()
    return [card(pick, [_read(clip) for clip in _paths(run, name)]) for name, pick in picks.items()]


def _unpacked(run: Run, pick: Pick) -> Pick:
    """The pick with the images of its episodes: a suite may show them."""
    scene, (trial, retrial) = unpacked_scenes(run, [pick.scene])[0], unpacked_attempts(run, [pick.trial, pick.retrial])
    return replace(pick, scene=scene, trial=trial, retrial=retrial)


def _digest(pick: Pick) -> str:
    """What decides how the clips of a scene look: the episodes, and whatever replays and films them."""
    found = hashlib.sha256()
    for episode in pick.episodes:
        sent = episode.action if episode.executed is None else episode.executed
        found.update(json.dumps([episode.task.to_json(), episode.seed, len(episode)], sort_keys=True).encode())
        found.update(episode.initial_state.tobytes() + sent.tobytes())
    for source in sorted(Path(suites.__file__).parent.rglob("*.py")):
        found.update(source.read_bytes())
    found.update(" ".join(version(name) for name in ("mujoco", "mujoco-warp", "av", "pillow")).encode())
    return found.hexdigest()[:32]


def _paths(run: Run, name: str) -> list[tuple[Path, Path]]:
    """The MP4 and the JPEG of demonstration, trial and retrial."""
    mp4, jpg = MEDIA
    folder = contained(run.directory, CLIPS)
    return [(folder / f"{name}-{clip}.{mp4}", folder / f"{name}-{clip}.{jpg}") for clip in range(3)]


def _film(suite: Filmable, fps: int, pick: Pick, paths: Sequence[tuple[Path, Path]], advance: Advance) -> None:
    """Films a scene and keeps its clips."""
    from watchtrylearn.suites.render import encode_jpeg, encode_video

    for images, (mp4, jpg) in zip(suite.film(pick.episodes, on_clip=advance), paths, strict=True):
        write_atomic(jpg, encode_jpeg(images[0]))
        write_atomic(mp4, encode_video(images, fps))


def _read(paths: tuple[Path, Path]) -> tuple[bytes, bytes]:
    return read_bytes(paths[0], LIMIT), read_bytes(paths[1], LIMIT)
