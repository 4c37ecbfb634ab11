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
from draftpool.cli.plan import StackPlan
from draftpool.cli.rendering import ColourView, EventView, SilentView, legend, show_generation
from draftpool.cli.stack import Stack
from draftpool.cli.threads import num_physical_cores
from draftpool.client import NO_DRAFT, Client, Completion, GenerateOptions, Model, TreeShape

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
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", "-n", min=8, help="Of each answer.")] = 128,
) -> None:
    """Bring everything up with the embedded models, generate, and compare drafting with not drafting."""
    run = _Demo(max_new_tokens)
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

    def __init__(self, max_new_tokens: int) -> None:
        self.console = output_console()
        self.comparisons: list[Comparison] = []
        self._max_new_tokens = max_new_tokens

    async def interruptible(self) -> bool:
        """Run; returns whether it was interrupted."""
        board = ServiceBoard(message_console())
        stack = Stack(StackPlan(), on_event=board)
        return await until_interrupted(
            self._run(stack, board), on_first_signal=board.say_stopping, on_second_signal=stack.kill
        )

    async def _run(self, stack: Stack, board: ServiceBoard) -> None:
        try:
            with board.live():
                await stack.start()
            async with Client(stack.orchestrator) as client:
                models = await client.list_models()
                await self._warm_up(client, models)
                await self._compare(client, models)
            caption = conditions(stack.plan, models, self._max_new_tokens)
            self.console.print(comparison_table(self.comparisons, caption))
        finally:
            await stack.stop()

    async def _warm_up(self, client: Client, models: Sequence[Model]) -> None:
        """Every path once, untimed; the bandit learns from it as it would from any other request."""
        for model in models:
            for sampling in SAMPLINGS:
                for drafting in (NO_DRAFT, None):
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
        self.console.print(Text(f"{case.model}, {case.sampling.name}", style="bold cyan"))
        plain = await self._complete(client, case, NO_DRAFT, SilentView()) if is_plain_first else None
        view = ColourView(self.console) if case.is_shown else SilentView()
        drafted = await self._complete(client, case, None, view)
        plain = plain or await self._complete(client, case, NO_DRAFT, SilentView())
        comparison = Comparison(case.model, case.sampling.name, case.prompt, plain, drafted)
        self.comparisons.append(comparison)
        self.console.print(comparison_line(comparison))

    async def _complete(self, client: Client, case: _Case, drafting: TreeShape | None, view: EventView) -> Completion:
        options = self._options(case.sampling, drafting)
        return await show_generation(view, client.generate(case.model, case.prompt, **options))

    def _options(self, sampling: Sampling, drafting: TreeShape | None) -> GenerateOptions:
        return GenerateOptions(
            max_new_tokens=self._max_new_tokens,
            temperature=sampling.temperature,
            seed=sampling.seed,
            drafting=drafting,
        )


def conditions(plan: StackPlan, models: Sequence[Model], max_new_tokens: int) -> str:
    """What the numbers were measured under."""
    dtypes = ", ".join(dict.fromkeys(model.dtype for model in models))
    threads = plan.threads
    return (
        f"Medians over {len(PROMPTS)} prompts of up to {max_new_tokens} new tokens, one request at a time, both ways "
        f"in turn, the prompt's computation included. {num_physical_cores()} cores; {threads.verifier} thread(s) a "
        f"verifier, {threads.drafter} for the drafter; targets in {dtypes}. Tree shapes as the bandit learned them."
    )
