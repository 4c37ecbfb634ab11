import asyncio

import pytest

from draftpool.errors import NoCapacity
from orchestrator.admission import Admission


async def hold(admission: Admission, order: list[int], number: int, release: asyncio.Event) -> None:
    async with admission.admitted():
        order.append(number)
        await release.wait()


async def test_requests_past_the_limit_wait_in_order_and_past_the_queue_are_refused() -> None:
    admission, order, release = Admission(max_running=1, max_waiting=2), [], asyncio.Event()
    tasks = []
    for number in range(3):
        tasks.append(asyncio.create_task(hold(admission, order, number, release)))
        await asyncio.sleep(0)
    with pytest.raises(NoCapacity) as refused:
        await hold(admission, order, 3, release)
    assert refused.value.retry_after_s
    release.set()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2]


async def test_a_waiting_request_that_is_cancelled_leaves_no_trace() -> None:
    admission, order, release = Admission(max_running=1, max_waiting=1), [], asyncio.Event()
    running = asyncio.create_task(hold(admission, order, 0, release))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(hold(admission, order, 1, release))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    third = asyncio.create_task(hold(admission, order, 2, release))
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(running, third)
    assert order == [0, 2]
