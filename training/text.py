"""The training text: GSM8K problems and the sources of the running Python's standard library.

Sources: GSM8K, arXiv:2110.14168 (MIT licence); CPython's `Lib/` (PSF-2.0).
"""

import hashlib
import json
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NUM_HELD_OUT_PROBLEMS = 200
HELD_OUT_FILE_MODULUS = 50
"""One Python file in this many is held out, chosen by a hash of its path and so the same everywhere."""

_EXCLUDED_FOLDERS = frozenset(
    {"encodings", "ensurepip", "idle_test", "idlelib", "lib2to3", "pydoc_data", "site-packages", "test", "tests"}
)
_EXCLUDED_PREFIXES = ("config-", "_sysconfigdata", "__pycache__")


@dataclass(frozen=True)
class Source:
    """One kind of text, already split; a document is never in both halves."""

    train: list[str]
    """The documents that tokenizers and models learn from."""
    held_out: list[str]
    """The documents that only `training.evaluate` reads."""


@dataclass(frozen=True)
class Corpus:
    """Everything a model is trained and measured on."""

    gsm8k: Source
    """Problems with their worked answers, one document each."""
    python: Source
    """Standard-library modules, one document a file."""

    def sources(self) -> dict[str, Source]:
        """The sources by name, in the order that reports list them."""
        return {"gsm8k": self.gsm8k, "python": self.python}


def load_corpus(gsm8k_path: Path) -> Corpus:
    """Read both sources; the split depends on nothing but their content.

    Args:
        gsm8k_path: GSM8K's training split, one JSON object a line with `question` and `answer`.
    """
    problems = list(_read_problems(gsm8k_path))
    return Corpus(
        gsm8k=Source(problems[:-NUM_HELD_OUT_PROBLEMS], problems[-NUM_HELD_OUT_PROBLEMS:]),
        python=_read_standard_library(Path(sysconfig.get_path("stdlib"))),
    )


def format_problem(question: str, answer: str) -> str:
    """The one layout in which the models ever see a problem."""
    return f"Question: {question}\nAnswer: {answer}"


def _read_problems(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            problem = json.loads(line)
            yield format_problem(problem["question"], problem["answer"])


def _read_standard_library(root: Path) -> Source:
    source = Source([], [])
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if _is_excluded(relative):
            continue
        half = source.held_out if _is_held_out(relative) else source.train
        half.append(path.read_text(encoding="utf-8", errors="replace"))
    return source


def _is_excluded(relative: Path) -> bool:
    return any(part in _EXCLUDED_FOLDERS or part.startswith(_EXCLUDED_PREFIXES) for part in relative.parts)


def _is_held_out(relative: Path) -> bool:
    digest = hashlib.sha256(relative.as_posix().encode()).digest()
    return int.from_bytes(digest[:4], "big") % HELD_OUT_FILE_MODULUS == 0
