"""Make docs/loop.webp, the picture that the README opens with: a demonstration, a trial ("no"), the retrial ("yes").

usage: python benchmarks/clip.py [FAMILY]

Nothing in it is staged: the weights that come with the package act in a scene of `wtl demo --pretrained`, the first of
FAMILY (grasp unless given) that the report would choose. The three play one after the other, side by side.
"""

import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from watchtrylearn.experiments import pretrained
from watchtrylearn.reporting.gallery import Pick, pick_gallery
from watchtrylearn.suites.tabletop.film import film
from watchtrylearn.suites.tabletop.suite import Tabletop
from watchtrylearn.system.files import write_atomic
from watchtrylearn.system.progress import Display
from watchtrylearn.types import WtlError

TARGET = Path(__file__).parents[1] / "docs" / "loop.webp"
LIMIT = 2 * 10**6  # bytes
WIDTH, HEIGHT, GAP, STRIP = 400, 280, 10, 40  # pixels: of each part, between them, of the line below
PAGE, INK, YES, NO = "#f6f5f1", "#1d2126", "#0b7a4b", "#b3261e"
BEGIN, HOLD, END = 500, 1100, 2500  # milliseconds at the beginning and the end of a part, and at the very end


def main(family: str = "grasp") -> None:
    """Writes the picture; refuses a family without a corrected scene, and a picture that is too large."""
    with tempfile.TemporaryDirectory() as folder:
        pick, suite = chosen(family, Path(folder))
    clips = [np.stack([smaller(image) for image in frames]) for frames in film(suite, pick.episodes)]
    pictures, durations = zip(*shown(pick, clips, round(1000 / suite.spec.fps)), strict=True)
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, "webp", save_all=True, append_images=pictures[1:], duration=durations, loop=0, quality=90, method=6
    )
    if buffer.tell() > LIMIT:
        raise WtlError(f"the picture has {buffer.tell()} bytes, more than {LIMIT}")
    write_atomic(TARGET, buffer.getvalue())
    print(f"{TARGET}: {buffer.tell()} bytes, {len(pictures)} pictures, {sum(durations) / 1000:.1f} s")


def chosen(family: str, folder: Path) -> tuple[Pick, Tabletop]:
    """The scene, and the suite it belongs to."""
    with pretrained.demo_run("wtl-state", folder / "run", Display()) as run:
        made = pretrained.attempts(run)
        assert isinstance(run.suite, Tabletop)
        for pick in pick_gallery(made, run.suite):
            if pick.scene.task.family == family and pick.kind == "corrected":
                return pick, run.suite
    raise WtlError(f"no trial of family {family!r} failed and was corrected")


def smaller(image: np.ndarray) -> np.ndarray:
    """A frame in the size of a part."""
    return np.asarray(Image.fromarray(image).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


def shown(pick: Pick, clips: list[np.ndarray], step: int) -> Iterator[tuple[Image.Image, int]]:
    """Picture after picture with its milliseconds: a part plays while the others show their first or last frame."""
    for part, clip in enumerate(clips):
        for at, image in enumerate(clip):
            frames = [c[-1] if i < part else c[0] for i, c in enumerate(clips)]
            frames[part] = image
            last = at == len(clip) - 1
            hold = (END if part == 2 else HOLD) if last else BEGIN if at == 0 else step
            yield picture(pick, frames, part, told=part + last), hold


def picture(pick: Pick, frames: list[np.ndarray], part: int, told: int) -> Image.Image:
    """The three parts, with what is known so far of the first ``told`` of them."""
    page = Image.new("RGB", (3 * WIDTH + 2 * GAP, HEIGHT + STRIP), PAGE)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(22)
    answers = [None, pick.trial.episode.success, pick.retrial.episode.success]
    for number, (frame, answer) in enumerate(zip(frames, answers, strict=True)):
        place = Image.fromarray(frame)
        if number > part:  # to come
            place = Image.blend(place, Image.new("RGB", place.size, PAGE), 0.6)
        left = number * (WIDTH + GAP)
        page.paste(place, (left, 0))
        text = ("1. Watch: one demonstration", "2. Try, in a new scene:", "3. Learn, and try again:")[number]
        draw.text((left + 4, HEIGHT + 8), text, INK, font)
        if answer is not None and number < told:
            where = left + 4 + draw.textlength(f"{text} ", font)
            draw.text((where, HEIGHT + 8), "yes" if answer else "no", YES if answer else NO, font, stroke_width=1)
    return page


if __name__ == "__main__":
    main(*sys.argv[1:])
