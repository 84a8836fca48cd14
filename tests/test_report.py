"""The page: the document's numbers, well-formed, self-contained, and safe against what data contains."""

import base64
import copy
import dataclasses
import hashlib
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes

from watchtrylearn.learners import learner_names
from watchtrylearn.protocol import Attempt, Scene
from watchtrylearn.reporting import plots, results, tables
from watchtrylearn.reporting.documents import read_document
from watchtrylearn.reporting.gallery import Card, Clip, card, pick_gallery
from watchtrylearn.reporting.report import write_report
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
    Card("go to mark A", "mirror", "m-0", (Clip("demonstration", None, b"still", None),), False, "Both fail."),
    Card(EVIL, f'family"{EVIL}', EVIL, (Clip(EVIL, b"film", b"still", False),), True, EVIL),
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


def test_the_story_comes_first_and_the_tables_after(page: str) -> None:
    places = [
        page.index(text) for text in ('class="story panel large"', "<table", 'id="gallery"', 'class="story panel"')
    ]
    assert places == sorted(places)


def test_nothing_but_the_page_itself_may_run_or_load(page: str) -> None:
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    rules = dict(rule.strip().split(" ", 1) for rule in html.unescape(policy).split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == rules["media-src"] == "data:"
    for rule, tag in (("script-src", "script"), ("style-src", "style")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.S)
        assert rules[rule] == f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
    assert not any(name.startswith("on") for _, attributes in Reader(page).elements for name in attributes)


HOSTILE = "\"'><img src=x onerror=alert(1)>{{ 7 * 7 }}"


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in a document that is not a container."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    return [path] if entries is None else [leaf for key, item in entries for leaf in leaves(item, (*path, key))]


def with_hostile(document: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    place: Any = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = HOSTILE
    return changed


def test_no_field_of_a_document_reaches_the_page_as_markup(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a field holds, it is shown as text, or refused because it is not a number."""
    monkeypatch.setattr(plots, "attempts_plot", lambda *_: "<svg></svg>")  # draws numbers only, and slowly
    sound = copy.deepcopy(document)
    shown: list[tuple[Any, ...]] = []
    for path in leaves(sound):
        try:
            page = text_of(tmp_path, with_hostile(sound, path))
        except (TypeError, ValueError, KeyError, WtlError):
            continue
        shown.append(path)
        assert "<img" not in page, path
        assert not any("onerror" in attributes for _, attributes in Reader(page).elements), path
    assert {path[0] for path in shown} == set(document) - {"wall_s", "phases_s", "data"}  # hold numbers only
    assert {path[-1] for path in shown} >= {"n", "tasks", "only_first", "only_second", "method", "command", "summary"}


def text_of(folder: Path, document: dict[str, Any]) -> str:
    write_report(folder / "page.html", document)
    return (folder / "page.html").read_text(encoding="utf-8")


def test_keys_of_a_document_are_text_too(document: dict[str, Any], tmp_path: Path) -> None:
    changed = {**document, "data": {HOSTILE: 1}, "phases_s": {HOSTILE: 1.0}, "versions": {HOSTILE: HOSTILE}}
    page = text_of(tmp_path, changed)
    assert "<img" not in page
    assert "".join(Reader(page).texts).count(HOSTILE) == 4


def test_counts_are_text(document: dict[str, Any], tmp_path: Path) -> None:
    changed = copy.deepcopy(document)
    for row in changed["rows"]:
        row["n"] = row["tasks"] = HOSTILE
    for comparison in changed["comparisons"]:
        comparison["n"] = comparison["only_first"] = comparison["only_second"] = HOSTILE
    changed["outcomes"][0]["n"] = HOSTILE
    page = text_of(tmp_path, changed)
    assert "<img" not in page
    assert "".join(Reader(page).texts).count(HOSTILE) >= 8


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
    assert "✓ yes" in page
    assert "✗ no" in page
    filters = [attributes["data-filter"] for _, attributes in Reader(page).elements if "data-filter" in attributes]
    assert filters == ["", CARDS[1].family, "mirror"]


def test_ceilings_findings_and_counts_are_told(page: str) -> None:
    text = re.sub(r"\s+", " ", "".join(Reader(page).texts))  # "\s" is a no-break space as well
    assert "From the demonstration alone, 56 % is the best possible on average" in text  # (3/4 + 3/8) / 2
    assert "After one trial the best possible rate is 94 %" in text  # (1 + 7/8) / 2
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
    assert "the best possible on average" not in texts


def test_every_method_of_a_large_table_has_a_look_of_its_own() -> None:
    names = [f"method {number}" for number in range(30)]
    looks = [plots.look(name, names) for name in [*learner_names(), *names][:35]]
    assert (
        len({(look.marker, look.series) for look in looks}) == len({(look.symbol, look.series) for look in looks}) == 35
    )
    assert len({look.marker for look in looks[:11]}) == 11
    style = Path(plots.__file__).with_name("report.css").read_text(encoding="utf-8")
    for look in looks:
        assert style.count(f"--series-{look.series}:") == 2  # light and dark


def test_two_methods_of_one_learner_are_named_coloured_and_begin_where_the_plan_says(
    tmp_path: Path, monkeypatch
) -> None:
    """A second pair of networks beside the first, of the same two learners."""
    first = make_attempts("one_shot", 0, {False: True, True: False})
    large = make_attempts("large", 0, {False: True, True: True})
    again = make_attempts("again", 0, {False: True, True: False}) + make_attempts("again", 1, {False: True, True: True})
    made = corrected() + first
    made += [dataclasses.replace(a, learner="one_shot") for a in large]
    made += [dataclasses.replace(a, learner="watch_try_learn") for a in again]
    entries = [("one_shot", 0), ("large", 0), ("watch_try_learn", 1), ("again", 1)]
    document = results.document(
        "debug",
        command="wtl demo",
        seeds=[0],
        seconds={"record": 1.0},
        rows=results.rows(made, TOY, entries),
        comparisons=results.comparisons(made, [(("again", 1), ("large", 0))], TOY),
        extra={"starts": {"watch_try_learn": "one_shot", "again": "large"}, "data": {"trials_large": 3}},
    )
    (tmp_path / "results.json").write_text(json.dumps(document))
    assert read_document(tmp_path / "results.json") == document
    names = ["one-shot imitation", "one-shot imitation (large)", "Watch-Try-Learn, after 1 trial"]
    names.append("Watch-Try-Learn (again), after 1 trial")
    assert [tables.line_name(*line) for line in tables.lines(document).items()] == names
    drawn, plot = {}, Axes.plot

    def seen(axes: Axes, x: Any, y: Any, *marker: str, **options: Any) -> Any:
        if not marker:
            drawn[options["color"]] = y
        return plot(axes, x, y, *marker, **options)

    monkeypatch.setattr(Axes, "plot", seen)
    plots.attempts_plot(document, "all", "all", (4.0, 3.0))
    looks = plots.looks(document)
    assert drawn[looks["watch_try_learn"].colour] == [0.5, 1.0]
    assert drawn[looks["again"].colour] == [1.0, 1.0]
    monkeypatch.undo()
    log = [{"step": step, "loss": 1 / (1 + step)} for step in range(50)]
    write_report(tmp_path / "report.html", document, metrics={"large": log, "again": log})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "trials by one-shot imitation (large)" in page
    assert len({look.series for look in looks.values()}) == 4
    assert (
        f"var(--series-{looks['large'].series})"
        in page[page.index(">one-shot imitation (large)<", page.index("Training")) :]
    )
    rest = re.sub(r"<[^>]*>", "", page)
    assert "Watch-Try-Learn (again), after 1 trial succeeds" in " ".join(rest.split())


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
    assert picks[0].kind == "corrected"  # the story
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
