"""`draftpool demo`: the embedded models answer built-in prompts, with drafting and without."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.text import Text

from draftpool.cli.board import ServiceBoard
from draftpool.cli.comparison import Comparison, comparison_line, comparison_table, differences
from draftpool.cli.consoles import message_console, output_console
from draftpool.cli.demo_prompts import PROMPTS
from draftpool.cli.interrupt import until_interrupted
from draftpool.cli.plan import DType, StackPlan
from draftpool.cli.rendering import ColourView, EventView, SilentView, legend, show_generation
from draftpool.cli.shapes import shape_option
from draftpool.cli.stack import Stack
from draftpool.cli.threads import num_physical_cores
from draftpool.client import NO_DRAFT, Client, Completion, GenerateOptions, Model, TreePolicy

LEARNED = "learned"
DEFAULT_SHAPE = LEARNED
DEFAULT_DTYPE: DType = "float32"

_SEED = 7


@dataclass(frozen=True)
class Sampling:
    """A way of sampling that the demo compares."""

    name: str
    temperature: float
    seed: int | None


@dataclass(frozen=True)
class _Case:
    """One request of the demo."""

    model: str
    sampling: Sampling
    prompt: str
    is_shown: bool


SAMPLINGS = (Sampling("greedy", 0, None), Sampling(f"temperature 1, seed {_SEED}", 1, _SEED))


def demo(
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", "-n", min=8, help="Length of each answer.")] = 128,
    shape: Annotated[
        str, typer.Option(help="The tree of every round; `learned` leaves it to the bandit.")
    ] = DEFAULT_SHAPE,
    dtype: Annotated[
        DType, typer.Option(help="What the targets compute in. In bfloat16 a tie in rounding can change a token.")
    ] = DEFAULT_DTYPE,
) -> None:
    """Bring everything up with the embedded models, generate, and compare drafting with not drafting."""
    drafting = None if shape == LEARNED else shape_option(shape)
    run = _Demo(StackPlan(dtype=dtype), drafting, max_new_tokens)
    if asyncio.run(run.interruptible()):
        raise typer.Exit(130)
    wrong = differences(run.comparisons)
    for sentence in wrong:
        run.console.print(Text(sentence, style="bold red"), soft_wrap=True)
    if wrong:
        raise typer.Exit(1)


class _Demo:
    """One run of the demo.

    Attributes:
        comparisons: what has been measured so far.
    """

    def __init__(self, plan: StackPlan, drafting: TreePolicy | None, max_new_tokens: int) -> None:
        self.console = output_console()
        self.comparisons: list[Comparison] = []
        self._plan = plan
        self._drafting = drafting
        self._max_new_tokens = max_new_tokens

    async def interruptible(self) -> bool:
        """Run; returns whether it was interrupted."""
        board = ServiceBoard(message_console())
        stack = Stack(self._plan, on_event=board)
        return await until_interrupted(
            self._run(stack, board), on_first_signal=board.say_stopping, on_second_signal=stack.kill
        )

    async def _run(self, stack: Stack, board: ServiceBoard) -> None:
        try:
            with board.live():
                await stack.start()
            async with Client(stack.orchestrator) as client:
                models = await client.list_models()
                with message_console().status("warming up"):
                    await self._warm_up(client, models)
                await self._compare(client, models)
            self.console.print(comparison_table(self.comparisons, self._conditions(models)))
        finally:
            await stack.stop()

    async def _warm_up(self, client: Client, models: Sequence[Model]) -> None:
        """Every path once, untimed; the bandit learns from it as it would from any other request."""
        for model in models:
            for sampling in SAMPLINGS:
                for drafting in (NO_DRAFT, self._drafting):
                    await client.complete(model.name, PROMPTS[0], **self._options(sampling, drafting))

    async def _compare(self, client: Client, models: Sequence[Model]) -> None:
        self.console.print(legend())
        for index, prompt in enumerate(PROMPTS):
            self.console.print(Text(f"\n{prompt}", style="dim"))
            for model in models:
                for sampling in SAMPLINGS:
                    is_shown = sampling is SAMPLINGS[0] or index == 0
                    await self._compare_one(client, _Case(model.name, sampling, prompt, is_shown), index % 2 == 0)

    async def _compare_one(self, client: Client, case: _Case, is_plain_first: bool) -> None:
        """Both ways, in turns the one and the other first, so that neither has the warmer machine."""
        self.console.print(Text(f"\n{case.model}, {case.sampling.name}", style="bold cyan"))
        plain = await self._complete(client, case, NO_DRAFT, SilentView()) if is_plain_first else None
        view = ColourView(self.console) if case.is_shown else SilentView()
        drafted = await self._complete(client, case, self._drafting, view)
        plain = plain or await self._complete(client, case, NO_DRAFT, SilentView())
        comparison = Comparison(case.model, case.sampling.name, case.prompt, plain, drafted)
        self.comparisons.append(comparison)
        self.console.print(comparison_line(comparison))

    async def _complete(self, client: Client, case: _Case, drafting: TreePolicy | None, view: EventView) -> Completion:
        options = self._options(case.sampling, drafting)
        return await show_generation(view, client.generate(case.model, case.prompt, **options))

    def _options(self, sampling: Sampling, drafting: TreePolicy | None) -> GenerateOptions:
        return GenerateOptions(
            max_new_tokens=self._max_new_tokens,
            temperature=sampling.temperature,
            seed=sampling.seed,
            drafting=drafting,
        )

    def _conditions(self, models: Sequence[Model]) -> str:
        """What the numbers were measured under."""
        dtypes = ", ".join(dict.fromkeys(model.dtype for model in models))
        threads = self._plan.threads
        tree = "as the bandit learned them" if self._drafting is None else str(self._drafting)
        return (
            f"Medians over {len(PROMPTS)} prompts of up to {self._max_new_tokens} new tokens, one request at a time, "
            f"both ways in turn, the prompt's computation included. Trees: {tree}. Targets in {dtypes}, threads: "
            f"{threads.verifier} a verifier, {threads.drafter} the drafter, on {num_physical_cores()} cores."
        )
