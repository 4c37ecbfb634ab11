"""`draftpool models`: what can be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rich import box
from rich.table import Table

from draftpool.cli.connection import Connection
from draftpool.cli.consoles import output_console
from draftpool.client import Model


def models(connection: Connection) -> None:
    """List the models that can be asked now, and for how much of its vocabulary each has a drafter."""
    asyncio.run(_list_models(connection))


async def _list_models(connection: Connection) -> None:
    async with connection.client() as client:
        served = await client.list_models()
    console = output_console()
    if served:
        console.print(models_table(served))
    else:
        console.print(f"{connection.address} serves no model yet; its verifiers may still be loading.")


def models_table(served: Sequence[Model]) -> Table:
    """One row a model."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))  # fits 80 columns
    table.add_column("model", style="bold", no_wrap=True)
    table.add_column("architecture")
    for heading in ("params", "dtype", "vocab", "context", "drafter"):
        table.add_column(heading, justify="right", no_wrap=True)
    for model in served:
        if model.is_cold:
            table.add_row(model.name, "starts when asked")
            continue
        table.add_row(
            model.name,
            model.architecture,
            human_count(model.num_parameters),
            model.dtype,
            f"{model.vocab_size:,}",
            f"{model.max_context_tokens:,}",
            f"for {model.shared_vocabulary:.0%}" if model.has_drafter else "none",
        )
    return table


def human_count(number: int) -> str:
    """1234567 is 1.2M."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return str(number)
