"""What a key may use, with the clock in the test's hand."""

import pytest

from draftpool.errors import RateLimited
from orchestrator.api_keys import ApiKey, KeyEntry
from orchestrator.key_limits import KeyUse, KeyUses, TokenBucket

HASH = "0" * 64


def refusal(use: KeyUse, entry: KeyEntry, now_s: float) -> RateLimited:
    with pytest.raises(RateLimited) as refused:
        use.start(entry, now_s)
    return refused.value


def test_a_bucket_holds_a_minute_s_worth_and_fills_evenly() -> None:
    bucket = TokenBucket(60, now_s=100)
    assert bucket.wait_s(60, 100) == 0
    bucket.take(60, 100)
    assert bucket.wait_s(1, 100) == 1
    assert bucket.wait_s(1, 100.75) == pytest.approx(0.25)
    assert bucket.wait_s(1, 101) == 0
    bucket.take(1, 10_000)
    assert bucket.wait_s(60, 10_000) == 1  # a long pause is no more than a full bucket


def test_an_overdrawn_bucket_fills_up_first() -> None:
    bucket = TokenBucket(60, now_s=0)
    bucket.take(180, 0)
    assert bucket.wait_s(1, 0) == 121
    assert bucket.wait_s(1, 121) == 0


def test_more_than_fits_is_waited_for_no_longer_than_until_it_is_full() -> None:
    bucket = TokenBucket(60, now_s=0)
    assert bucket.wait_s(1000, 0) == 0
    bucket.take(60, 0)
    assert bucket.wait_s(1000, 0) == 60


def test_a_bucket_of_less_than_one_a_minute_lets_one_through_at_a_time() -> None:
    entry = KeyEntry(sha256=HASH, requests_per_minute=0.5)
    use = KeyUse()
    use.start(entry, 0)
    assert refusal(use, entry, 0).retry_after_s == 120
    use.start(entry, 120)


def test_requests_are_counted_and_told_when_to_come_again() -> None:
    entry = KeyEntry(sha256=HASH, requests_per_minute=2)
    use = KeyUse()
    use.start(entry, 0)
    use.start(entry, 0)
    refused = refusal(use, entry, 10)
    assert refused.retry_after_s == pytest.approx(20)
    assert refused.message == "this API key allows 2 requests a minute"
    use.start(entry, 30)


def test_a_request_that_is_refused_is_not_counted() -> None:
    entry = KeyEntry(sha256=HASH, requests_per_minute=1, max_concurrent_requests=1)
    use = KeyUse()
    use.start(entry, 0)
    for _ in range(5):
        refusal(use, entry, 59)
    assert use.num_running == 1
    use.end()
    use.start(entry, 60)


def test_only_so_many_run_at_once() -> None:
    entry = KeyEntry(sha256=HASH, max_concurrent_requests=2)
    use = KeyUse()
    use.start(entry, 0)
    use.start(entry, 0)
    assert "2 requests at the same time" in refusal(use, entry, 1000).message
    use.end()
    use.start(entry, 1000)


def test_tokens_are_paid_after_they_came_and_debts_before_the_next_request() -> None:
    entry = KeyEntry(sha256=HASH, tokens_per_minute=600)
    use = KeyUse()
    use.start(entry, 0)
    use.use_tokens(1200, 0)
    use.end()
    assert refusal(use, entry, 0).retry_after_s == pytest.approx(60.1)
    use.start(entry, 60.2)


def test_limits_can_change_while_requests_run() -> None:
    use = KeyUse()
    use.start(KeyEntry(sha256=HASH), 0)
    stricter = KeyEntry(sha256=HASH, max_concurrent_requests=1, requests_per_minute=1)
    refusal(use, stricter, 0)
    use.end()
    use.start(stricter, 0)
    use.end()
    use.start(KeyEntry(sha256=HASH, requests_per_minute=2), 0)


def test_a_key_that_is_replaced_goes_on_with_its_use() -> None:
    uses = KeyUses()
    old, new = ApiKey("a", KeyEntry(sha256=HASH)), ApiKey("a", KeyEntry(sha256="1" * 64))
    assert uses.of(old) is uses.of(new)
    assert uses.of(ApiKey("b", KeyEntry(sha256=HASH))) is not uses.of(old)
