"""Code that is typed strictly can use the library: the pages' examples pass ``mypy --strict``."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_examples_of_the_pages_pass_mypy_strict(tmp_path: Path) -> None:
    pages = {"readme": ROOT / "README.md", "tutorial": ROOT / "docs" / "tutorial.md"}
    for name, page in pages.items():
        blocks = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
        assert blocks
        (tmp_path / f"{name}.py").write_text("\n".join(blocks))
    settings = ["--strict", "--config-file=", "--follow-imports=silent", f"--cache-dir={ROOT}/.mypy_cache/strict"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *settings, *map(str, tmp_path.glob("*.py"))],
        capture_output=True,
        text=True,
        env={"MYPYPATH": str(ROOT / "src"), "PATH": ""},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
