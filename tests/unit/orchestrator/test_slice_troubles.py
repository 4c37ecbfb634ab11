"""What an API server's refusals mean, and how often it is bothered."""

import logging

import pytest

from orchestrator.slice_troubles import Outage, Trouble, refused


@pytest.mark.parametrize(
    ("status", "must_list", "lasts"),
    [
        (410, True, False),
        (429, False, False),
        (500, False, False),
        (503, False, False),
        (504, True, False),
        (401, False, True),
        (403, True, True),
        (404, True, True),
        (400, True, True),
    ],
)
def test_what_a_status_means(status: int, must_list: bool, lasts: bool) -> None:
    trouble = refused(status, "words", verb="watch", namespace="pools")
    assert (trouble.must_list, trouble.lasts) == (must_list, lasts)
    assert f"({status}: words)" in trouble.message


def test_a_refusal_by_rbac_says_which_rule_is_missing() -> None:
    message = refused(403, "words", verb="watch", namespace="pools").message
    for said in ("RBAC", "watch", "endpointslices", "discovery.k8s.io", "namespace pools", "get, list and watch"):
        assert said in message


def test_pauses_grow_to_a_bound_and_begin_anew_after_the_end() -> None:
    outage = Outage("test", lasting_pause_s=30)
    pauses_s = []
    for _ in range(30):
        outage.add(Trouble("away"))
        pauses_s.append(outage.pause_s)
    assert 0.1 <= pauses_s[0] <= 0.15
    assert all(10 <= pause_s <= 15 for pause_s in pauses_s[10:])
    outage.end()
    outage.add(Trouble("away"))
    assert outage.pause_s <= 0.15


def test_what_lasts_is_tried_once_more_soon_and_then_seldom() -> None:
    outage = Outage("test", lasting_pause_s=30)
    outage.add(Trouble("not allowed", lasts=True))
    assert outage.pause_s <= 0.15
    outage.add(Trouble("not allowed", lasts=True))
    assert 30 <= outage.pause_s <= 45


def test_a_server_that_asks_for_time_gets_it_within_bounds() -> None:
    outage = Outage("test", lasting_pause_s=30)
    outage.add(Trouble("busy", retry_after_s=7))
    assert 7 <= outage.pause_s <= 10.5
    outage.add(Trouble("busy", retry_after_s=86400))
    assert 60 <= outage.pause_s <= 90


def test_a_trouble_is_said_once_and_a_single_one_that_passes_is_not_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    outage = Outage("test", lasting_pause_s=30)
    outage.add(Trouble("away"))
    outage.end()
    assert caplog.messages == []
    for _ in range(3):
        outage.add(Trouble("not allowed", lasts=True))
    outage.end()
    assert caplog.messages == ["test, what is known stays: not allowed", "test is watched again"]
