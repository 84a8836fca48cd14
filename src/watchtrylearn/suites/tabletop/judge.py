"""What counts as success on the tabletop: named terms per family, all of them measured, all of them logged.

Every family demands the real thing with the right target. Acting on the wrong one first (pressing the other
button; moving or lifting the other object) spoils the attempt for good, so an attempt that follows the
wrong reading of a demonstration is a clear failure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from watchtrylearn.suites.tabletop.model import BUTTON_TRAVEL

PRESSED = 0.6 * BUTTON_TRAVEL  # a button pushed down this far is pressed
LIFT = 0.05  # "lifted": metres above where it stood
HELD_STEPS = 5  # consecutive control steps
SPOILED = 0.03  # the other object moved this far: the attempt fails for good
PUSHED = 0.05  # least distance that a pushed object travels before it touches the other one
GROUNDED = 0.015  # a pushed object never rises more than this
SQUEEZE = 1.0  # N between the fingers: more, with both on the object, is a grip; honest pushes never reach it
ZONE = 0.30  # the goal zones begin at this |x|
ZONE_END = 0.48
ZONE_Y = (-0.24, 0.30)  # as drawn on the table
STILL = (0.03, 0.5)  # m/s and rad/s
UPRIGHT = 0.966  # cosine of the tilt: 15 degrees
TOPPLED = 0.866  # 30 degrees: a pushed thing may rock, not fall over

FAMILY_TERMS: Mapping[str, tuple[str, ...]] = {
    "button": ("target_pressed", "other_not_pressed"),
    "grasp": ("held_steps", "other_untouched"),
    "push": ("touching", "pushed_far_enough", "pushed_fairly", "other_untouched"),
    "place": ("was_lifted", "in_zone", "upright", "still", "released", "other_untouched"),
}


@dataclass(frozen=True)
class Measured:
    """What the judge sees after a control step, in every world."""

    position: Float[np.ndarray, "world 2 3"]  # of the objects
    tilt: Float[np.ndarray, "world 2"]  # cosine of the angle between an object's z axis and up
    speed: Float[np.ndarray, "world 2 2"]  # linear, angular
    fingers: Bool[np.ndarray, "world 2 2"]  # object, finger: touching
    together: Bool[np.ndarray, "world"]  # the objects touch each other
    squeeze: Float[np.ndarray, "world"]  # closing force of the fingers (N)
    press: Float[np.ndarray, "world 2"]  # how far the buttons are down (m)


MEMORY = 10  # numbers that a judge remembers of an attempt


class Judge:
    """Follows the attempts of a batch of worlds. ``target``: slot 0/1 of the object or button that is meant.

    ``side`` is the sign of x of the goal zone (place only; 0 otherwise).
    """

    def __init__(self, families: Sequence[str], target: Int[np.ndarray, "world"], side: Int[np.ndarray, "world"]):
        self.families, self.target, self.side = np.asarray(families), target, side
        self._world = np.arange(len(target))
        self.start = np.zeros((len(target), 2, 3))
        self.held = np.zeros(len(target), int)
        self.spoiled, self.unfair, self.was_lifted = np.zeros((3, len(target)), bool)
        names = dict.fromkeys(name for family in FAMILY_TERMS.values() for name in family)
        self.terms = {name: np.zeros(len(target)) for name in names}
        self._applies = {
            name: np.isin(self.families, [f for f, mine in FAMILY_TERMS.items() if name in mine]) for name in names
        }

    def reset(self, facts: Measured, mask: Bool[np.ndarray, "world"]) -> None:
        """Begin anew in the worlds of ``mask``; the objects stand where they started."""
        self.start[mask] = facts.position[mask]
        self.held[mask] = 0
        for latch in (self.spoiled, self.unfair, self.was_lifted, *self.terms.values()):
            latch[mask] = 0

    def memory(self) -> Float[np.ndarray, "world 10"]:
        """What it remembers of every attempt: where the objects started, and what has happened since."""
        latches = (self.held, self.spoiled, self.unfair, self.was_lifted)
        return np.concatenate([self.start.reshape(-1, 6), np.stack(latches, axis=1)], axis=1)

    def remember(self, memory: Float[np.ndarray, "world 10"], mask: Bool[np.ndarray, "world"]) -> None:
        """The inverse of ``memory`` in the worlds of ``mask``: an attempt goes on in its middle."""
        self.start[mask] = memory[mask, :6].reshape(-1, 2, 3)
        for column, latch in enumerate((self.held, self.spoiled, self.unfair, self.was_lifted), 6):
            latch[mask] = memory[mask, column]

    def update(
        self, facts: Measured, moving: Bool[np.ndarray, "world"]
    ) -> tuple[Bool[np.ndarray, "world"], dict[str, Float[np.ndarray, "world"]]]:
        """Success at this step, and every term (0 where it does not belong to the world's family).

        Worlds outside ``moving`` stand still and their memory does too.
        """
        success = moving.copy()
        for name, value in self._terms(facts, moving).items():
            applies = self._applies[name]
            needed = HELD_STEPS if name == "held_steps" else 1
            success &= ~applies | (value >= needed)
            self.terms[name] = np.where(moving, applies * value, self.terms[name])
        return success, {name: value.copy() for name, value in self.terms.items()}

    @property
    def lost(self) -> Bool[np.ndarray, "world"]:
        """True where the attempt has failed for good, whatever is done from now on."""
        lost: np.ndarray = self.spoiled | (self.unfair & (self.families == "push"))
        return lost

    def _terms(self, facts: Measured, moving: Bool[np.ndarray, "world"]) -> dict[str, np.ndarray]:
        mine = (self._world, self.target)
        moved = facts.position - self.start
        touching = facts.together
        self._latch(facts, moved, touching)
        lifted, grip = moved[mine][:, 2], facts.fingers[mine].all(axis=-1)
        self.held = np.where(moving, np.where((lifted >= LIFT) & grip, self.held + 1, 0), self.held)
        self.was_lifted |= (lifted >= LIFT) & grip
        x = self.side * facts.position[mine][:, 0]
        y = facts.position[mine][:, 1]
        within = (x >= ZONE) & (x <= ZONE_END) & (y >= ZONE_Y[0]) & (y <= ZONE_Y[1])
        down = np.abs(lifted) < GROUNDED
        speed = facts.speed[mine]
        return {
            "target_pressed": facts.press[mine] >= PRESSED,
            "other_not_pressed": ~self.spoiled,
            "held_steps": self.held,
            "touching": touching,
            "pushed_far_enough": np.linalg.norm(moved[mine][:, :2], axis=-1) >= PUSHED,
            "pushed_fairly": ~self.unfair,
            "was_lifted": self.was_lifted,
            "in_zone": within & down,
            "upright": facts.tilt[mine] >= UPRIGHT,
            "still": (speed < STILL).all(axis=-1),
            "released": ~facts.fingers[mine].any(axis=-1),
            "other_untouched": ~self.spoiled,
        }

    def _latch(self, facts: Measured, moved: np.ndarray, touching: np.ndarray) -> None:
        """Remember what cannot be undone: the wrong thing acted on, a push that was none."""
        mine, other = (self._world, self.target), (self._world, 1 - self.target)
        pressed_other = facts.press[other] >= PRESSED
        moved_other = (np.linalg.norm(moved[other], axis=-1) >= SPOILED) & ~((self.families == "push") & touching)
        self.spoiled |= np.where(self.families == "button", pressed_other, moved_other)
        pinched = facts.fingers[mine].all(axis=-1) & (facts.squeeze > SQUEEZE)
        tipped = facts.tilt[mine] < TOPPLED
        self.unfair |= (moved[mine][:, 2] > GROUNDED) | pinched | tipped
