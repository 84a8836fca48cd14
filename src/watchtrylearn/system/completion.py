"""Completion of ``wtl`` by the shell: verbs, options, and the words that a verb or an option takes.

The script is made once, by ``eval "$(wtl --completion bash)"`` (or zsh) in the shell's start-up file; it holds every
word, so that pressing TAB starts no Python.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence

Verbs = Mapping[str, Callable[..., None]]

FOLDER = "FOLDER"  # instead of words: what is wanted is a folder
SHELLS = {"bash": "", "zsh": "autoload -U +X bashcompinit && bashcompinit\n"}
_SCRIPT = """\
_wtl() {{
  local cur="${{COMP_WORDS[COMP_CWORD]}}" verb="${{COMP_WORDS[1]}}" words
  [[ $verb == data && $COMP_CWORD -gt 2 ]] && verb="data ${{COMP_WORDS[2]}}"
  [[ $COMP_CWORD -eq 1 ]] && verb=""
  case "${{COMP_WORDS[COMP_CWORD-1]}}" in
{options}
    *) case "$verb|$cur" in
{verbs}
      *) words="" ;;
    esac ;;
  esac
  if [[ $words == FOLDER ]]; then
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -d -- "$cur"))
  else
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
  fi
}}
complete -F _wtl wtl
"""


def script(shell: str, verbs: Verbs, groups: Mapping[str, Verbs], words: Mapping[str, Sequence[str]]) -> str:
    """What ``shell`` must read to complete ``wtl``.

    ``groups`` are the verbs below a verb; ``words`` are what the parameter of a name takes (any verb's). Parameters
    that are neither there nor switches take folders.
    """
    every = {**verbs, **{f"{verb} {name}": run for verb, below in groups.items() for name, run in below.items()}}
    options: dict[str, Sequence[str]] = {}
    cases = {"|-*": ["--help", "--version", "--completion"], "|*": list(verbs)}
    for verb, run in every.items():
        parameters = inspect.signature(run).parameters.values()
        places = [p.name for p in parameters if p.default is p.empty]
        named = {p.name.replace("settings", "set").replace("_", "-"): p for p in parameters if p.name not in places}
        options |= {f"--{n}": words.get(p.name, [FOLDER]) for n, p in named.items() if not isinstance(p.default, bool)}
        cases[f"{verb}|-*"] = ["--help", *(f"--{name}" for name in named)]
        cases[f"{verb}|*"] = list(groups.get(verb, [])) or [w for name in places for w in words.get(name, [FOLDER])]
    options["--completion"] = list(SHELLS)
    return SHELLS[shell] + _SCRIPT.format(
        options="\n".join(f'    {option}) words="{" ".join(takes)}" ;;' for option, takes in options.items()),
        verbs="\n".join(f'      "{case[:-1]}"*) words="{" ".join(takes)}" ;;' for case, takes in cases.items()),
    )
