"""What others see of the package: its page on an index, and what each way of installing brings."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_page_on_the_package_index_has_no_links_to_files_beside_it():
    """The build applies these substitutions (``make smoke`` builds)."""
    page = (ROOT / "README.md").read_text()
    for change in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        page, times = re.subn(change["pattern"], change["replacement"], page)
        assert times > 0, f"{change['pattern']} changes nothing in README.md"
    targets = re.findall(r"\]\(([^)]+)\)|(?:src|href)=\"([^\"]+)\"", page)
    assert targets
    assert all("".join(target).startswith("https://") for target in targets)
    assert "tutorial" in page.lower()


def test_make_demo_installs_no_developer_tools():
    makefile = (ROOT / "Makefile").read_text()
    ready, tools = re.findall(r"^\t\$\(PIP\) -e '\.\[(.*)\]'$", makefile, flags=re.MULTILINE)
    assert (ready, tools) == ("sim", "sim,dev")
    assert "demo: $(READY)" in makefile
    assert "check: $(TOOLS)" in makefile


def test_every_run_time_dependency_has_a_tested_version():
    """The versions that ``make`` installs are those of constraints.txt; trackers are on nobody's path but yours."""
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *(w for e in ("sim", "dev") for w in project["optional-dependencies"][e])]
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {re.split(r"[<>=\[]", name)[0].lower() for name in wanted} <= pinned
