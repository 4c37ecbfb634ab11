"""Files that are read again when they change."""

import os
import threading
from pathlib import Path

import pytest

from draftpool.errors import BadParameter
from draftpool.watched_files import WatchedFiles


def watched(*paths: Path) -> WatchedFiles[list[str]]:
    def read() -> list[str]:
        contents = [path.read_text() for path in paths]
        if "bad" in contents:
            raise BadParameter("it is bad")
        return contents

    return WatchedFiles(paths, read)


def replace(path: Path, text: str) -> None:
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


def overwrite(path: Path, text: str) -> None:
    path.write_text(text)


def touch_only(path: Path, text: str) -> None:
    """The same length, in the same place."""
    path.write_text(text)
    os.utime(path, ns=(1, 1))


def test_the_same_files_are_the_same_object(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    files = watched(path)
    assert files.current() is files.current()


@pytest.mark.parametrize("change", [replace, overwrite, touch_only])
def test_a_change_of_any_kind_is_seen_by_the_next_who_asks(tmp_path: Path, change) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    files = watched(path)
    change(path, "two, and longer" if change is overwrite else "two")
    assert files.current() == [path.read_text()]


def test_what_makes_no_sense_leaves_the_last_good_contents_and_is_said_once(tmp_path: Path, caplog) -> None:
    path = tmp_path / "file"
    path.write_text("good")
    files = watched(path)
    replace(path, "bad")
    assert [files.current() for _ in range(3)] == [["good"]] * 3
    path.unlink()
    assert files.current() == ["good"]
    assert [record.message for record in caplog.records].count(
        f"the last good contents of {path} stay in use: it is bad"
    ) == 1
    replace(path, "better")
    assert files.current() == ["better"]


def test_files_that_are_not_there_at_first_are_an_error_that_names_them(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match=r"cannot read .*nowhere: No such file"):
        watched(tmp_path / "nowhere")


def test_contents_are_never_of_two_moments(tmp_path: Path) -> None:
    """A folder is swapped as fast as possible, with no pause in which reading is easy."""
    link, done = tmp_path / "data", threading.Event()

    def swap(version: int) -> None:
        folder = tmp_path / f"v{version}"
        folder.mkdir()
        for name in ("a", "b"):
            (folder / name).write_text(str(version))
        (tmp_path / "next").symlink_to(folder.name)
        (tmp_path / "next").replace(link)

    def keep_swapping() -> None:
        for version in range(1, 1001):
            swap(version)
        done.set()

    swap(0)
    files = watched(link / "a", link / "b")
    swapping = threading.Thread(target=keep_swapping)
    swapping.start()
    while not done.is_set():
        first, second = files.current()
        assert first == second
    swapping.join()
    assert files.current() == ["1000", "1000"]
