"""Settings of the orchestrator."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from draftpool.tree import NO_DRAFT, TreeShape, chain
from draftpool.tree_policy import BestFirst, TreePolicy, parse_policy

DEFAULT_ARMS: tuple[TreePolicy, ...] = (
    NO_DRAFT,
    chain(2),
    chain(3),
    chain(4),
    BestFirst(max_nodes=5, max_depth=7),
    BestFirst(max_nodes=8, max_depth=7),
    BestFirst(max_nodes=16, max_depth=7),
    BestFirst(max_nodes=32, max_depth=7),
    TreeShape((3, 2, 2, 1, 1)),
)
"""What the bandit chooses from: not drafting, chains, best-first trees that double in size, and the paper's fixed tree
(arXiv:2506.01206). Best-first trees of one depth are nested, so that one round teaches all that are smaller; how deep
they go is left to the drafter's estimate."""


class OrchestratorSettings(BaseSettings):
    """Where the model services are, and how much is taken on."""

    model_config = SettingsConfigDict(env_prefix="DRAFTPOOL_ORCHESTRATOR_", frozen=True, extra="forbid")

    verifiers: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Addresses of verifier replicas, of any targets; each tells what it serves."
    )
    drafters: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Addresses of drafter replicas; none means decoding without drafts."
    )
    max_requests: int = Field(64, ge=1, description="Requests generating at the same time.")
    max_queued_requests: int = Field(256, ge=0, description="Requests waiting for their turn; more are refused.")
    draft_timeout_s: float = Field(
        5.0, gt=0, description="Longest wait for one draft, in seconds; after it the round goes on without."
    )
    refresh_s: float = Field(
        1.0,
        gt=0,
        description="How often replicas that do not answer, or are not known yet, are asked again, in seconds.",
    )
    bandit_policy: Literal["ucb_tuned", "ucb1", "thompson", "fixed"] = Field(
        "ucb_tuned",
        description="How the bandit chooses: by upper confidence bounds from each arm's uncertainty or from its number "
        "of rounds, by Thompson sampling, or always bandit_tree.",
    )
    bandit_tree: str = Field(
        "best 8x7",
        description="The tree of bandit_policy=fixed, as `3,2,2,1,1` or `best 16x6`; `none` for no draft.",
    )
    reward: Literal["measured", "paper"] = Field(
        "measured",
        description="What the bandit maximises: measured time a token, or the formula of arXiv:2506.01206.",
    )
    exploration: float = Field(
        0.5,
        ge=0,
        description="Weight of the policy's curiosity: of standard errors, or with ucb1 of the reward's unit.",
    )
    yield_half_life: float = Field(
        1000.0, gt=0, description="Rounds until what is known of acceptance has half its weight; `inf` for ever."
    )
    timing_half_life: float = Field(
        300.0,
        gt=0,
        description="Rounds of a session until what is known of times has half its weight; `inf` for ever.",
    )

    @property
    def fixed_arm(self) -> TreePolicy:
        """What `bandit_tree` says. Raises BadParameter."""
        return NO_DRAFT if self.bandit_tree == "none" else parse_policy(self.bandit_tree)

    @field_validator("verifiers", "drafters", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Environment variables hold addresses with commas between them."""
        return tuple(filter(None, value.split(","))) if isinstance(value, str) else value
