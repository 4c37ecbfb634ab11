"""The one thing that Redis is asked to do: `merge.lua`, run on one group."""

from __future__ import annotations

from hashlib import sha1
from pathlib import Path

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import NoScriptError

from orchestrator.sharing.shared_group import MEMORY_S, NumberedDelta, Snapshot

Client = Redis | RedisCluster

SCRIPT = Path(__file__).with_name("merge.lua").read_text()
_SHA = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
_PREFIX = "draftpool:bandit:v2:"
"""The number is the schema's, which is described in merge.lua; another schema uses other keys."""


def redis_key(group: str) -> str:
    """The hash that holds a group."""
    return _PREFIX + group


async def merge(
    client: Client, group: str, replica: str, numbered: NumberedDelta, snapshot: Snapshot, *, lifetime_s: int
) -> Snapshot:
    """Merge the delta into the group unless it has been, and fetch the group. Either all of it happens or nothing.

    Args:
        snapshot: the last one that this replica has; the group comes back from it where Redis has lost it.
        lifetime_s: after which Redis drops a group that nobody asks for.

    Raises:
        RedisError: with ResponseError nothing has been merged; with any other it may have been.
    """
    delta = numbered.delta
    arguments: list[str | bytes] = [
        replica,
        str(numbered.number),
        repr(delta.keep),
        str(lifetime_s),
        str(int(MEMORY_S)),
    ]
    arguments.append(str(len(delta.amounts)))
    for name, amount in delta.amounts.items():
        arguments += [name, repr(amount)]
    for field, value in snapshot.fields.items():
        arguments += [field, value]
    try:
        reply = await client.evalsha(_SHA, 1, redis_key(group), *arguments)
    except NoScriptError:  # a server that has not seen the script, or has restarted; EVAL makes it known
        reply = await client.eval(SCRIPT, 1, redis_key(group), *arguments)
    return Snapshot(dict(zip(reply[::2], reply[1::2], strict=True)))
