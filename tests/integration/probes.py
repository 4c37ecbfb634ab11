"""Looking into running services from outside."""

import asyncio

from draftpool.cli.stack import Stack
from draftpool.rpc.channel import open_channel
from draftpool.v1 import drafter_pb2, drafter_pb2_grpc, verifier_pb2, verifier_pb2_grpc

QUESTION = "Question: Tom has 12 marbles. He buys 3 bags of 8 marbles each. How many marbles does he have?\nAnswer:"


async def open_sessions(stack: Stack) -> int:
    """Sessions that the model services hold, all together."""
    total = 0
    for address in stack.drafters:
        async with open_channel(address) as channel:
            drafter = await drafter_pb2_grpc.DrafterStub(channel).Describe(drafter_pb2.DescribeDrafterRequest())
            total += drafter.load.num_sessions
    for address in stack.verifiers.values():
        async with open_channel(address) as channel:
            verifier = await verifier_pb2_grpc.VerifierStub(channel).Describe(verifier_pb2.DescribeVerifierRequest())
            total += verifier.load.num_sessions
    return total


async def all_sessions_are_freed(stack: Stack, within_s: float = 2.0) -> bool:
    """Whether the services come to hold nothing."""
    async with asyncio.timeout(within_s):
        while await open_sessions(stack):
            await asyncio.sleep(0.02)
    return True
