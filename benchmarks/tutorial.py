"""Run the blocks of docs/tutorial.md in order, and write below each what it prints.

usage: python benchmarks/tutorial.py
"""

import contextlib
import io
import os
import re
import tempfile
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n.*?```\n)?", re.DOTALL)


def rendered(page: str) -> tuple[str, dict[str, Any]]:
    """The page with the output of every block below it, and the names that the blocks leave behind."""
    names: dict[str, Any] = {"__name__": "tutorial"}

    def run(found: re.Match[str]) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(found[1], "docs/tutorial.md", "exec"), names)
        shown = f"\n```text\n{printed.getvalue()}```\n" if printed.getvalue() else ""
        return f"```python\n{found[1]}```\n{shown}"

    return BLOCK.sub(run, page), names


def main() -> None:
    page = PAGE.read_text()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # the tutorial writes files
        PAGE.write_text(rendered(page)[0])
        os.chdir("/")


if __name__ == "__main__":
    main()
