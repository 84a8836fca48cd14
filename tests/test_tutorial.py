"""The tutorial is true: its blocks run in order, and print what is shown below them."""

import re
from itertools import zip_longest

import pytest

pytest.importorskip("mujoco_warp")

import standin

pytestmark = pytest.mark.sim
tutorial = standin.script("tutorial")
PAGE = tutorial.PAGE.read_text()


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The page as its blocks make it, and the names they leave."""
    folder = tmp_path_factory.mktemp("tutorial")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield (*tutorial.rendered(PAGE), folder)


def test_the_blocks_print_what_the_page_shows(ran):
    assert alike(ran[0], PAGE)


def alike(one: str, other: str) -> bool:
    """Equal but for numbers that differ by at most 2: the last bit of a sum may decide a close attempt."""
    pairs = zip_longest(re.split(r"(\d+)", one), re.split(r"(\d+)", other), fillvalue="")
    return all(a == b or (a.isdigit() and b.isdigit() and abs(int(a) - int(b)) <= 2) for a, b in pairs)


def test_pages_that_differ_are_not_alike():
    assert alike("38 of 40: True", "37 of 40: True")
    assert not alike("38 of 40: True", "38 of 40: False")
    assert not alike("38 of 40", "30 of 40")
    assert not alike("38 of 40", "38 of 40 tasks")


def test_what_the_text_says_holds(ran):
    names, folder = ran[1], ran[2]
    assert names["suite"].conflict(names["task"], 0, 1)
    assert names["again"].success == names["retrial"].success
    assert len(names["context"].trials) == 0  # with_trial leaves the old context as it is
    assert len(names["wiser"].trials) == 1
    by_hand = [e.success for made in (names["trials"], names["retrials"]) for e in made]
    assert by_hand == [a.episode.success for a in names["attempts"]]
    assert all(names["suite"].conflict(a.scene.task, 0, a.scene.seed) for a in names["attempts"])
    assert names["frames"].shape[0] == len(names["retrial"]) + 1
    assert (folder / "retrial.jpg").read_bytes().startswith(b"\xff\xd8\xff")
    assert (folder / "retrial.mp4").read_bytes()[4:8] == b"ftyp"


def test_trained_weights_learn_from_their_trials(ran):
    trials, retrials = (sum(e.success for e in ran[1][made]) for made in ("trials", "retrials"))
    assert trials <= 0.75 * len(ran[1]["shown"])  # on average at most half of them
    assert retrials >= 0.85 * len(ran[1]["shown"])
    assert retrials > trials


def test_the_first_block_is_about_ten_lines():
    assert len(tutorial.BLOCK.search(PAGE)[1].strip().splitlines()) <= 11
