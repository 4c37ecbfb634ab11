"""Settings of the orchestrator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from draftpool.errors import BadParameter
from draftpool.tree import NO_DRAFT, TreeShape, chain
from draftpool.tree_policy import BestFirst, TreePolicy, parse_policy
from orchestrator.discovery import sources_of
from orchestrator.patience import DraftPatience, VerifyPatience
from orchestrator.sharing.address import parse_redis_url

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

    model_config = SettingsConfigDict(
        env_prefix="DRAFTPOOL_ORCHESTRATOR_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    verifiers: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Addresses of verifier replicas, of any targets; each tells what it serves. host:port is one "
        "replica, dns:///host:port is one at each address of the name, looked up again and again, and "
        "kubernetes:///[namespace/]service:port is one at each ready pod of the Service, port by number or by name.",
    )
    drafters: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Addresses of drafter replicas, as for verifiers; none means decoding without drafts."
    )
    max_requests: int = Field(64, ge=1, description="Requests generating at the same time.")
    max_queued_requests: int = Field(256, ge=0, description="Requests waiting for their turn; more are refused.")
    priority_lift_s: float = Field(
        10.0, gt=0, description="A waiting request climbs one priority class for every so many seconds."
    )
    slow_reader_s: float = Field(
        10.0,
        gt=0,
        description="How long a reply may wait for the client to read; then the request gives its place and sessions "
        "back until it does, in seconds.",
    )
    draft_least_wait_s: float = Field(
        0.005,
        ge=0,
        description="A round waits for its draft as long as verifying without one takes, and at least this long, in "
        "seconds; then it goes on without.",
    )
    draft_first_wait_s: float = Field(
        0.0,
        ge=0,
        description="How long a request's first round waits for its draft, in seconds. Its prompt is then taken in by "
        "the drafter first and by the verifier afterwards, not by both at a time.",
    )
    draft_timeout_s: float = Field(
        5.0,
        gt=0,
        description="After how many seconds without a reply a drafter is given up. No round waits that long for it.",
    )
    stall_s: float = Field(
        0.5,
        gt=0,
        description="A model service that has not replied for so many seconds is asked for its health again and again; "
        "without an answer within as many it is taken to be lost.",
    )
    recovery_s: float = Field(
        30.0,
        gt=0,
        description="How many seconds a request without any verifier waits for one, before it fails.",
    )
    cold_targets: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Names of targets that may be scaled to zero: a request for one without a replica waits for it.",
    )
    cold_start_s: float = Field(
        300.0, gt=0, description="How long such a request waits for its target to start, in seconds."
    )
    scaler_listen: str | None = Field(
        None,
        description="Address of KEDA's external scaler and of what orchestrators ask each other, on a port apart from "
        "the public one; none without it.",
    )
    peers: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Scaler addresses of all orchestrators, this one's may be among them, as for verifiers: whichever "
        "is asked then knows what waits at the others.",
    )
    peer_server_name: str | None = Field(
        None,
        description="Name that the certificates of the other orchestrators must carry, where it is not that of the "
        "model services (tls_server_name).",
    )
    refresh_s: float = Field(
        1.0,
        gt=0,
        description="The longest until a replica that did not answer is asked again, in seconds.",
    )
    dns_refresh_s: float = Field(5.0, gt=0, description="How often the names among the addresses are looked up.")
    ejection_s: float = Field(
        1.0,
        gt=0,
        description="How long a replica gets no requests after one of its failed, in seconds; it doubles with each "
        "further failure.",
    )
    max_ejection_s: float = Field(30.0, gt=0, description="The longest that failures keep a replica out, in seconds.")
    max_ejected_share: float = Field(
        0.5, ge=0, le=1, description="The share of a pool that failures may keep out at once; never all that is left."
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
        0.35,
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
    api_keys_file: Path | None = Field(
        None, description="TOML file of the API keys that clients must show; `draftpool keys new` makes one."
    )
    public_cert_file: Path | None = Field(
        None, description="Certificate that clients see, where it is not the one that other services see."
    )
    public_key_file: Path | None = Field(None, description="Its private key.")
    require_client_certificates: bool = Field(
        False, description="Clients must show a certificate of tls_ca_file, besides an API key where there are any."
    )
    redis_url: SecretStr | None = Field(
        None,
        description="Redis that shares what is learned with other orchestrators; without it each learns alone. "
        "redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://; it may hold a password, so only the "
        "environment can give it.",
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

    @field_validator("bandit_tree")
    @classmethod
    def _check_tree(cls, value: str) -> str:
        try:
            _tree(value)
        except BadParameter as error:
            raise ValueError(error.message) from None
        return value

    @field_validator("verifiers", "drafters", "cold_targets", "peers", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Environment variables hold addresses and names with commas between them."""
        return tuple(filter(None, value.split(","))) if isinstance(value, str) else value

    @field_validator("verifiers", "drafters", "peers")
    @classmethod
    def _check(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        try:
            sources_of(entries, dns_refresh_s=1.0)
        except BadParameter as error:
            raise ValueError(error.message) from None
        return entries

    @property
    def fixed_arm(self) -> TreePolicy:
        """What `bandit_tree` says."""
        return _tree(self.bandit_tree)

    @property
    def draft_patience(self) -> DraftPatience:
        return DraftPatience(
            self.draft_least_wait_s, self.draft_first_wait_s, stall_s=self.stall_s, timeout_s=self.draft_timeout_s
        )

    @property
    def verify_patience(self) -> VerifyPatience:
        return VerifyPatience(self.stall_s, self.recovery_s)


def _tree(text: str) -> TreePolicy:
    """Raises BadParameter."""
    return NO_DRAFT if text == "none" else parse_policy(text)
