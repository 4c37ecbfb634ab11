"""Settings of the orchestrator."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from draftpool.errors import BadParameter
from draftpool.tree import NO_DRAFT, TreeShape, chain
from draftpool.tree_policy import BestFirst, TreePolicy
from orchestrator.sharing.address import parse_redis_url

DEFAULT_ARMS: tuple[TreePolicy, ...] = (
    NO_DRAFT,
    chain(2),
    chain(3),
    chain(4),
    BestFirst(max_nodes=5, max_depth=4),
    BestFirst(max_nodes=8, max_depth=5),
    BestFirst(max_nodes=16, max_depth=6),
    BestFirst(max_nodes=32, max_depth=7),
    TreeShape((3, 2, 2, 1, 1)),
)
"""What the bandit chooses from: not drafting, chains, best-first trees that double in size, and the paper's fixed tree
(arXiv:2506.01206)."""


class OrchestratorSettings(BaseSettings):
    """Where the model services are, and how much is taken on."""

    model_config = SettingsConfigDict(
        env_prefix="DRAFTPOOL_ORCHESTRATOR_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

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
    reward: Literal["measured", "paper"] = Field(
        "measured",
        description="What the bandit maximises: measured time a token, or the formula of arXiv:2506.01206.",
    )
    exploration: float = Field(0.15, ge=0, description="Weight of UCB1's confidence term, in units of the reward.")
    redis_url: SecretStr | None = Field(
        None,
        description="Redis that shares what is learned with other orchestrators; without it each learns alone. "
        "redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://; better given by the environment, "
        "which does not show in the list of processes.",
    )
    redis_flush_interval_s: float = Field(
        0.75, gt=0, description="Between two exchanges with Redis, in seconds, give or take a quarter."
    )
    redis_lifetime_days: float = Field(
        30.0, gt=0, description="After which Redis drops what is known of a target that nobody asks for, in days."
    )

    @field_validator("redis_url")
    @classmethod
    def _check_url(cls, value: SecretStr | None) -> SecretStr | None:
        """A URL that cannot be understood is an error at start. An empty one is none."""
        if value is None or not value.get_secret_value():
            return None
        try:
            parse_redis_url(value.get_secret_value())
        except BadParameter as error:
            raise ValueError(error.message) from None
        return value

    @field_validator("verifiers", "drafters", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Environment variables hold addresses with commas between them."""
        return tuple(filter(None, value.split(","))) if isinstance(value, str) else value
