"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

DEFAULT_ADDRESS = "127.0.0.1:50050"
"""Where `draftpool up` listens and every other command looks."""

Address: TypeAlias = Annotated[
    str, typer.Option("--address", "-a", envvar="DRAFTPOOL_ADDRESS", help="Where the orchestrator answers, host:port.")
]
