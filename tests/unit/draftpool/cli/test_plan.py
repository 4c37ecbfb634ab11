"""What a stack is made of."""

import pytest

from draftpool.cli.plan import Place, StackPlan, served_name
from draftpool.errors import BadParameter


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("tiny-llama", "tiny-llama"),
        ("state-spaces/mamba-130m-hf", "mamba-130m-hf"),
        ("/models/my-llama/", "my-llama"),
        ("./my.model-1.5b", "my.model-1.5b"),
    ],
)
def test_a_target_is_served_under_the_last_part_of_its_path(model: str, name: str) -> None:
    assert served_name(model) == name


def test_two_targets_of_one_name_are_refused() -> None:
    with pytest.raises(BadParameter, match="'llama'"):
        StackPlan(targets=("/a/llama", "/b/llama"))


def test_a_stack_without_a_target_is_refused() -> None:
    with pytest.raises(BadParameter, match="at least one target"):
        StackPlan(targets=())


def test_without_a_drafter_none_is_started() -> None:
    plan = StackPlan(drafter=None)
    assert plan.drafters() == ()
    assert "--drafter" not in plan.orchestrator(drafters=(), verifiers=("h:1",)).options


def test_replicas_have_names_of_their_own() -> None:
    plan = StackPlan(targets=("a", "b"), num_drafters=2, num_verifiers=2)
    assert [spec.name for spec in plan.drafters()] == ["drafter 1", "drafter 2"]
    assert [spec.name for spec in plan.verifiers()["b"]] == ["verifier b 1", "verifier b 2"]


def test_the_orchestrator_is_given_every_address() -> None:
    spec = StackPlan(listen="0.0.0.0:7000").orchestrator(drafters=("h:1",), verifiers=("h:2", "h:3"))
    assert spec.options == ("--drafter", "h:1", "--verifier", "h:2", "--verifier", "h:3")
    assert spec.listen == "0.0.0.0:7000"


def test_a_service_runs_where_it_was_placed_and_all_others_here() -> None:
    plan = StackPlan(targets=("a",), num_verifiers=2, places={"verifier a 2": Place("10.0.0.2", ("nice", "-n", "5"))})
    here, there = plan.verifiers()["a"]
    assert (here.listen, here.launcher) == ("127.0.0.1:0", ())
    assert (there.listen, there.launcher) == ("10.0.0.2:0", ("nice", "-n", "5"))


def test_an_orchestrator_that_was_placed_binds_what_it_was_told() -> None:
    plan = StackPlan(listen="10.0.0.1:7000", places={"orchestrator": Place("10.0.0.1", ("nice",))})
    spec = plan.orchestrator(drafters=(), verifiers=("h:2",))
    assert (spec.listen, spec.launcher) == ("10.0.0.1:7000", ("nice",))


def test_every_model_process_is_told_its_threads_and_name() -> None:
    (spec,) = StackPlan(targets=("/models/a",), verifier_threads=3, dtype="float32").verifiers()["a"]
    assert spec.num_threads == 3
    assert " ".join(spec.options) == "--model /models/a --name a --num-threads 3 --dtype float32"


def test_the_orchestrator_is_told_its_redis_where_no_list_of_processes_shows_it() -> None:
    spec = StackPlan().orchestrator(drafters=(), verifiers=("h:2",), redis_url="redis://:geheim@h")
    assert spec.environment == {"DRAFTPOOL_ORCHESTRATOR_REDIS_URL": "redis://:geheim@h"}
    assert "geheim" not in f"{spec!r} {StackPlan(redis_url='redis://:geheim@h')!r}"


def test_without_a_redis_none_is_taken_from_the_environment_either() -> None:
    spec = StackPlan().orchestrator(drafters=(), verifiers=("h:2",))
    assert spec.environment == {"DRAFTPOOL_ORCHESTRATOR_REDIS_URL": ""}
