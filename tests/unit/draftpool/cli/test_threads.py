"""Thread counts of several processes on one machine."""

from pathlib import Path

import pytest

from draftpool.cli import threads
from draftpool.cli.threads import ThreadPlan, num_physical_cores, plan_threads, thread_environment


@pytest.mark.parametrize(
    ("num_cores", "num_verifiers", "verifier"),
    [(1, 1, 1), (2, 1, 1), (2, 2, 1), (4, 1, 4), (4, 2, 2), (8, 3, 2), (64, 2, 32), (4, 9, 1)],
)
def test_verifiers_share_the_cores_and_a_drafter_has_one(num_cores: int, num_verifiers: int, verifier: int) -> None:
    assert plan_threads(num_verifiers=num_verifiers, num_cores=num_cores) == ThreadPlan(drafter=1, verifier=verifier)


def test_a_process_is_told_how_many_threads_it_has_and_that_idle_ones_sleep() -> None:
    assert thread_environment(3) == {
        "OMP_NUM_THREADS": "3",
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
    }


@pytest.mark.parametrize(
    ("content", "num_cores"), [("max 100000\n", None), ("250000 100000\n", 2), ("50000 100000\n", 1)]
)
def test_a_container_quota_counts_in_whole_cores(tmp_path: Path, content: str, num_cores: int | None) -> None:
    cpu_max = tmp_path / "cpu.max"
    cpu_max.write_text(content)
    assert threads._quota_cores(cpu_max) == num_cores


def test_no_quota_file_means_no_quota(tmp_path: Path) -> None:
    assert threads._quota_cores(tmp_path / "none") is None


def test_there_is_always_a_core() -> None:
    assert num_physical_cores() >= 1
