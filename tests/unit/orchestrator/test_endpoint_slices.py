"""Which addresses a Service's slices mean."""

import pytest

from orchestrator.endpoint_slices import EndpointSlices
from tests.unit.orchestrator.fake_api_server import Json, endpoint, endpoint_slice

GRPC = {"grpc": 8000, "metrics": 9000}


def listed(*slices: Json, port: int | str = "grpc") -> EndpointSlices:
    made = EndpointSlices(port)
    made.replace({"metadata": {"resourceVersion": "7"}, "items": list(slices)})
    return made


def addresses(*slices: Json, port: int | str = "grpc") -> set[str]:
    return set(listed(*slices, port=port).addresses)


@pytest.mark.parametrize(
    ("conditions", "is_there"),
    [
        ({}, True),
        ({"ready": True}, True),
        ({"ready": True, "serving": True, "terminating": False}, True),
        ({"ready": False}, False),
        ({"ready": False, "serving": True, "terminating": True}, False),
        ({"ready": True, "terminating": True}, False),  # a Service that publishes pods that are not ready
        ({"terminating": True}, False),
    ],
)
def test_an_endpoint_is_there_unless_it_is_not_ready_or_terminates(conditions: dict[str, bool], is_there: bool) -> None:
    assert addresses(endpoint_slice("a", endpoint("10.0.0.1", **conditions), ports=GRPC)) == (
        {"10.0.0.1:8000"} if is_there else set()
    )


def test_an_endpoint_of_which_nothing_is_said_is_there() -> None:
    bare = {"addresses": ["10.0.0.1"], "conditions": None}
    assert addresses(endpoint_slice("a", bare, {"addresses": ["10.0.0.2"]}, ports=GRPC)) == {
        "10.0.0.1:8000",
        "10.0.0.2:8000",
    }


def test_the_endpoints_of_all_slices_count_and_one_that_moves_between_two_counts_once() -> None:
    moving = endpoint("10.0.0.1", pod="x")
    slices = [endpoint_slice(name, moving, endpoint(other), ports=GRPC) for name, other in (("a", "1.1"), ("b", "2.2"))]
    assert addresses(*slices) == {"10.0.0.1:8000", "1.1:8000", "2.2:8000"}


def test_a_name_of_a_port_is_looked_up_in_each_slice_and_a_number_is_taken_as_it_is() -> None:
    slices = [
        endpoint_slice("a", endpoint("10.0.0.1"), ports={"grpc": 8000}),
        endpoint_slice("b", endpoint("10.0.0.2"), ports={"grpc": 8001}),
        endpoint_slice("c", endpoint("10.0.0.3"), ports={"other": 8002}),
    ]
    assert addresses(*slices) == {"10.0.0.1:8000", "10.0.0.2:8001"}
    assert addresses(*slices, port=7) == {"10.0.0.1:7", "10.0.0.2:7", "10.0.0.3:7"}


def test_a_port_that_no_slice_has_is_noticed_but_not_where_there_is_no_slice() -> None:
    without = listed(endpoint_slice("a", ports={"metrics": 1}), endpoint_slice("b"))
    assert without.lacks_port
    assert without.port_names == ["metrics"]
    assert not listed().lacks_port
    assert not listed(endpoint_slice("a", ports=GRPC)).lacks_port


def test_addresses_of_ipv6_get_brackets() -> None:
    assert addresses(endpoint_slice("a", endpoint("fd00::1"), family="IPv6", ports=GRPC)) == {"[fd00::1]:8000"}


def test_a_pod_of_both_families_is_one_replica() -> None:
    four = endpoint_slice("a", endpoint("10.0.0.1", pod="x"), ports=GRPC)
    six = endpoint_slice("b", endpoint("fd00::1", pod="x"), endpoint("fd00::2", pod="y"), family="IPv6", ports=GRPC)
    assert addresses(four, six) == addresses(six, four) == {"10.0.0.1:8000", "[fd00::2]:8000"}


def test_further_addresses_of_an_endpoint_are_the_same_replica() -> None:
    assert addresses(endpoint_slice("a", {"addresses": ["10.0.0.1", "10.0.0.2"]}, ports=GRPC)) == {"10.0.0.1:8000"}


def test_null_is_an_empty_list() -> None:
    assert addresses(endpoint_slice("a", ports=GRPC) | {"endpoints": None}) == set()
    assert addresses(endpoint_slice("a", endpoint("10.0.0.1")) | {"ports": None}) == set()
    made = EndpointSlices("grpc")
    made.replace({"metadata": {"resourceVersion": "7"}, "items": None})
    assert made.addresses == frozenset()


def test_a_list_replaces_all_and_events_change_one_and_each_moves_the_version() -> None:
    slices = listed(endpoint_slice("a", endpoint("10.0.0.1"), ports=GRPC))
    assert slices.version == "7"
    added = endpoint_slice("b", endpoint("10.0.0.2"), ports=GRPC)
    added["metadata"]["resourceVersion"] = "8"
    slices.apply({"type": "ADDED", "object": added})
    assert (slices.version, len(slices.addresses)) == ("8", 2)
    slices.apply({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}})
    slices.apply({"type": "SOMETHING_NEW", "object": {"metadata": {"resourceVersion": "10"}}})
    assert (slices.version, len(slices.addresses)) == ("10", 2)
    slices.apply({"type": "DELETED", "object": added | {"metadata": added["metadata"] | {"resourceVersion": "11"}}})
    assert (slices.version, slices.addresses) == ("11", {"10.0.0.1:8000"})
