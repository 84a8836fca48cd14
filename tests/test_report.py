"""The page: the document's numbers, well-formed, self-contained, and safe against what data contains."""

import base64
import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from watchtrylearn import results, tables
from watchtrylearn.gallery import Card, Clip, card, pick_gallery
from watchtrylearn.protocol import Attempt, Scene
from watchtrylearn.report import write_report
from watchtrylearn.suites.toy import Toy
from watchtrylearn.types import WtlError

TOY = Toy()
VOID = {"meta", "br", "img", "input", "link", "hr"}
EVIL = '</script><script>alert("&1")</script>'


def make_attempts(method: str, trials: int, solved: dict[bool, bool], **terms: float) -> list[Attempt]:
    """Attempts in every scene, successful according to whether the scene is in conflict."""
    made = []
    for task in TOY.tasks("test"):
        for seed in range(2):
            scene = Scene(task, (TOY.demonstrate(task, 0),), 100 + seed)
            success = solved[TOY.conflict(task, 0, seed)]
            trial = dataclasses.replace(scene.demos[0], kind="trial", seed=scene.seed, success=success, terms=terms)
            made.append(Attempt(method, scene, trials, trial))
    return made


def corrected(**terms: float) -> list[Attempt]:
    """Watch-Try-Learn as it should be: first attempts fail in conflict, second attempts nowhere."""
    first = make_attempts("watch_try_learn", 0, {False: True, True: False}, **terms)
    return first + make_attempts("watch_try_learn", 1, {False: True, True: True})


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    made = corrected() + make_attempts("one_shot", 0, {False: True, True: False})
    entries = [("one_shot", 0), ("watch_try_learn", 1)]
    return results.document(
        "debug",
        command=f"wtl demo --out {EVIL}",
        seeds=[0, 1],
        seconds={"record": 61.0, "evaluate": 2.5},
        rows=results.rows(made, TOY, entries),
        comparisons=results.comparisons(made, [(entries[1], entries[0])], TOY),
        extra={"summary": EVIL, "data": {"recorded": 1234, "trials_bc_success": 0.25}, "outcomes": OUTCOMES},
    )


OUTCOMES = results.outcomes(corrected(), TOY)
CARDS = [
    Card(EVIL, f'family"{EVIL}', EVIL, (Clip("trial", b"film", b"still", False, EVIL),), True, EVIL),
    Card("go to mark A", "mirror", "m-0", (Clip("demonstration", None, b"still", None),), False, "Both fail."),
    Card("go to mark B", "mirror", "m-1", (Clip("retrial", None, None, True),), False, "Both succeed."),
]


@pytest.fixture(scope="module")
def page(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    metrics = {"bc": [{"step": step, "loss": 1 / (1 + step)} for step in range(50)], "one_shot": []}
    write_report(path, document, CARDS, metrics)
    return path.read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Elements with their attributes; fails where tags are not balanced."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)


def test_the_page_is_well_formed_and_its_ids_are_unique(page: str) -> None:
    ids = [attributes["id"] for _, attributes in Reader(page).elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_page_loads_nothing(page: str) -> None:
    for _, attributes in Reader(page).elements:
        for name in ("src", "href", "xlink:href", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    assert not re.search(r"url\((?!#)|@import|fetch\(|XMLHttpRequest", page)


def test_what_data_contains_stays_text(page: str) -> None:
    reader = Reader(page)
    assert sum(tag == "script" for tag, _ in reader.elements) == 2  # the document, and the page's own
    assert "alert" not in "".join(f"{tag}{list(attributes)}" for tag, attributes in reader.elements)
    assert "".join(reader.texts).count(EVIL) >= 6  # summary, command, sentence, family, task, verdict


def test_the_document_is_inside(page: str, document: dict[str, Any]) -> None:
    content = re.search(r'<script type="application/json" id="results">(.*?)</script>', page, re.S)
    assert content is not None
    assert json.loads(content[1]) == document


def test_every_number_of_the_table_is_shown(page: str, document: dict[str, Any]) -> None:
    cells = re.findall(r"<td[^>]*><b>([\d.]+)</b> <small>(\d+) to (\d+)</small>", page)
    lines = tables.lines(document).values()
    shown = [row[family, subset] for row in lines for _, family, subset in tables.columns(document)]
    expected = [(tables.percent(r["value"]), *(f"{100 * end:.0f}" for end in r["ci"])) for r in shown]
    assert cells == expected


def test_clips_come_through_unchanged(page: str) -> None:
    elements = Reader(page).elements
    (video,) = [attributes for tag, attributes in elements if tag == "video"]
    assert base64.b64decode(str(video["src"]).partition(",")[2]) == b"film"
    assert base64.b64decode(str(video["poster"]).partition(",")[2]) == b"still"
    assert "muted" in video
    assert "controls" in video  # until the script takes over
    (image,) = [attributes for tag, attributes in elements if tag == "img"]
    assert base64.b64decode(str(image["src"]).partition(",")[2]) == b"still"
    assert "not recorded" in page


def test_success_is_said_in_words_and_filters_know_the_families(page: str) -> None:
    assert "✓ success" in page
    assert "✗ failure" in page
    filters = [attributes["data-filter"] for _, attributes in Reader(page).elements if "data-filter" in attributes]
    assert filters == ["", CARDS[0].family, "mirror"]


def test_ceilings_findings_and_counts_are_told(page: str) -> None:
    text = re.sub(r"\s+", " ", "".join(Reader(page).texts))
    assert "nobody could succeed in more than 56 % of the scenes" in text  # (3/4 + 3/8) / 2
    assert "the best possible rate is 94 %" in text  # (1 + 7/8) / 2
    assert "50.0 percentage points more often" in text
    assert "100.0 percentage points more often" in text
    assert "1,234" in text
    assert "1 min 01 s" in text
    assert "50 % the trial fails and the retrial succeeds (100 % where the readings disagree)" in text


def test_the_same_document_gives_the_same_page(page: str, document: dict[str, Any], tmp_path: Path) -> None:
    for name in ("one.html", "two.html"):
        write_report(tmp_path / name, document, CARDS)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_a_document_without_rows_is_refused(document: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(WtlError, match="has no rows"):
        write_report(tmp_path / "report.html", {**document, "rows": []})
    assert list(tmp_path.iterdir()) == []


def test_a_suite_without_readings_is_not_said_to_have_them(tmp_path: Path, document: dict[str, Any]) -> None:
    rows = [{**row, "ceiling": None} for row in document["rows"] if row["subset"] == "all"]
    bare = {**document, "rows": rows, "comparisons": []}
    del bare["outcomes"]
    write_report(tmp_path / "report.html", bare)
    texts = "".join(Reader((tmp_path / "report.html").read_text(encoding="utf-8")).texts)
    assert "readings" not in texts
    assert "nobody could" not in texts


# ------------------------------------------------------------------------------------------------ the gallery


def test_every_family_shows_a_correction_in_conflict_first() -> None:
    picks = pick_gallery(corrected(), TOY, 2)
    assert [(p.scene.task.family, p.kind, p.conflict) for p in picks] == [
        ("reference", "corrected", True),
        ("mirror", "corrected", True),
    ]
    assert [p.scene.seed for p in pick_gallery(corrected(), TOY, 2)] == [p.scene.seed for p in picks]


def test_the_rest_is_shown_too_and_nothing_twice() -> None:
    picks = pick_gallery(corrected(), TOY, 6)
    scenes = [(p.scene.task.name, p.scene.seed) for p in picks]
    assert len(set(scenes)) == len(scenes) == 6
    assert len({task for task, _ in scenes}) == 6
    assert {p.kind for p in picks} == {"corrected", "at once"}
    everything = pick_gallery(corrected(), TOY, 1000)
    assert len(everything) == len(corrected()) // 2


def test_failures_are_shown_where_there_are_some() -> None:
    made = make_attempts("watch_try_learn", 0, {False: True, True: False})
    made += make_attempts("watch_try_learn", 1, {False: True, True: False})
    picks = pick_gallery(made, TOY, 4)
    assert "not solved" in {p.kind for p in picks}
    assert next(p for p in picks if p.kind == "not solved").verdict == "Both attempts fail."


def test_the_other_reading_is_named_only_with_evidence() -> None:
    def verdict(**terms: float) -> str:
        return pick_gallery(corrected(**terms), TOY, 1)[0].verdict

    assert verdict() == "The trial fails; the retrial, knowing so, succeeds."
    assert verdict(other_untouched=1.0) == "The trial fails; the retrial, knowing so, succeeds."
    assert verdict(other_untouched=0.0) == "The trial takes the other reading; the retrial corrects it."


def test_a_card_carries_the_outcomes() -> None:
    pick = pick_gallery(corrected(), TOY, 1)[0]
    made = card(pick, [(b"1", None), (b"2", None), (b"3", None)])
    assert [(clip.label, clip.success) for clip in made.clips] == [
        ("demonstration", None),
        ("trial", False),
        ("retrial", True),
    ]
    assert made.conflict
    assert [e.kind for e in pick.episodes] == ["demo", "trial", "trial"]
