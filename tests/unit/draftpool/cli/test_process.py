"""What is known of a service's process without starting one."""

import sys
from pathlib import Path

import pytest

from draftpool.cli.child import ServiceFailed
from draftpool.cli.process import ServiceProcess, ServiceSpec


def service(folder: Path, name: str = "verifier org/model") -> ServiceProcess:
    return ServiceProcess(ServiceSpec(name, "verifier", (), "127.0.0.1:0", 1, 5.0), folder)


def test_the_log_is_named_after_the_service(tmp_path: Path) -> None:
    assert service(tmp_path).log_path == tmp_path / "verifier-org-model.log"


def test_the_tail_is_the_last_lines_and_of_a_progress_bar_its_last_state(tmp_path: Path) -> None:
    process = service(tmp_path)
    process.log_path.write_text("first\n\nsecond\nLoading: 0%\rLoading: 50%\rLoading: 100%\nlast\n")
    assert process.log_tail(3) == ["second", "Loading: 100%", "last"]


def test_the_tail_of_a_long_log_is_as_short_as_any(tmp_path: Path) -> None:
    process = service(tmp_path)
    process.log_path.write_text("".join(f"line {number}\n" for number in range(100_000)))
    assert process.log_tail(2) == ["line 99998", "line 99999"]


def test_without_a_log_there_is_no_tail(tmp_path: Path) -> None:
    assert service(tmp_path).log_tail() == []


def test_before_it_runs_it_has_neither_address_nor_process(tmp_path: Path) -> None:
    process = service(tmp_path)
    assert not process.is_alive
    with pytest.raises(RuntimeError, match="no address before it is ready"):
        _ = process.address
    with pytest.raises(RuntimeError, match="not been started"):
        _ = process.pid


async def test_a_launcher_comes_before_the_command_of_the_service(tmp_path: Path) -> None:
    spec = ServiceSpec("one", "orchestrator", (), "127.0.0.1:0", 1, 5.0, launcher=("sh", "-c", "echo $1; exit 1", "sh"))
    with pytest.raises(ServiceFailed) as failure:
        await ServiceProcess(spec, tmp_path).start()
    assert failure.value.log_tail == (sys.executable,)
