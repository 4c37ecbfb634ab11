"""`draftpool bandit`: what has been learned about draft trees."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from draftpool.cli.connection import Connection
from draftpool.cli.consoles import output_console
from draftpool.learned import LearnedArm, LearnedLoad, LearnedSituation


def bandit(
    connection: Connection,
    every_load: Annotated[bool, typer.Option("--every-load", help="Also the loads that are not current.")] = False,
) -> None:
    """Show what the bandit has learned about draft trees, and which it would choose now."""
    asyncio.run(_show(connection, every_load=every_load))


async def _show(connection: Connection, *, every_load: bool) -> None:
    async with connection.client() as client:
        learned = await client.describe_bandit()
    console = output_console()
    shown = [(one, load) for one in learned for load in one.loads if every_load or load.is_current]
    for situation, load in shown:
        console.print(load_table(situation, load))
    if not shown:
        console.print(f"{connection.address} has learned nothing yet; it learns from every request.")


def load_table(situation: LearnedSituation, load: LearnedLoad) -> Table:
    """One row an arm, the one that would be chosen now first."""
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),  # so that it fits 80 columns
        title_justify="left",
        title=_title(situation, load),
    )
    table.add_column("arm", style="bold", no_wrap=True)
    for heading in ("rounds", "tokens\n/pass", "nodes", "time /\nplain", "reward", "±", "bound"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("now")
    for arm in load.arms:
        table.add_row(*_cells(arm, load.plain_round_s), "←" if arm is load.arms[0] else "")
    return table


def _title(situation: LearnedSituation, load: LearnedLoad) -> str:
    sessions = " to ".join(map(str, dict.fromkeys((load.min_sessions, load.max_sessions))))
    return (
        f"{situation.target}, drafter {situation.drafter}, {situation.sampling}, sessions open: {sessions}, "
        f"{load.num_rounds:.0f} rounds timed, a plain one {1e3 * load.plain_round_s:.1f} ms"
    )


def _cells(arm: LearnedArm, plain_round_s: float) -> tuple[str, ...]:
    return (
        str(arm.policy),
        f"{arm.num_rounds:.0f}",
        f"{arm.num_tokens:.2f}",
        f"{arm.num_nodes:.1f}",
        f"{arm.round_s / plain_round_s:.2f}",
        f"{arm.reward:.3f}",
        f"{arm.std_error:.3f}",
        f"{arm.index:.3f}",
    )
