"""`draftpool keys new`, as a script uses it."""

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.api_keys import read_keys

COMMAND = [sys.executable, "-m", "draftpool", "keys", "new"]


def test_what_is_printed_goes_into_the_file_and_the_key_is_known_then(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    keys = {}
    for name, limits in (("team.a", ["--requests-per-minute", "2.5", "--max-new-tokens", "100"]), ("bob", [])):
        with path.open("a") as file:
            made = subprocess.run([*COMMAND, "--name", name, *limits], stdout=file, stderr=subprocess.PIPE, text=True)
        assert made.returncode == 0
        [keys[name]] = [line for line in made.stderr.splitlines() if line.startswith("dp_")]
    known = read_keys(path)
    for name, key in keys.items():
        assert known.authenticate([("authorization", f"Bearer {key}")]).name == name
        assert key not in path.read_text()
    entry = known.authenticate([("authorization", f"Bearer {keys['team.a']}")]).entry
    assert (entry.requests_per_minute, entry.max_new_tokens, entry.tokens_per_minute) == (2.5, 100, None)


@pytest.mark.parametrize("name", ["", "a b", 'a"]', "x" * 65])
def test_a_name_that_the_file_would_refuse_is_refused_at_once(name: str) -> None:
    made = subprocess.run([*COMMAND, "--name", name], capture_output=True, text=True)
    assert made.returncode == 2
    assert made.stdout == ""
