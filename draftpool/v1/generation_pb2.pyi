from draftpool.v1 import sampling_pb2 as _sampling_pb2
from draftpool.v1 import tree_pb2 as _tree_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_INTERACTIVE: _ClassVar[Priority]
    PRIORITY_STANDARD: _ClassVar[Priority]
    PRIORITY_BATCH: _ClassVar[Priority]

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_EOS: _ClassVar[FinishReason]
    FINISH_REASON_LENGTH: _ClassVar[FinishReason]
    FINISH_REASON_STOP: _ClassVar[FinishReason]
PRIORITY_UNSPECIFIED: Priority
PRIORITY_INTERACTIVE: Priority
PRIORITY_STANDARD: Priority
PRIORITY_BATCH: Priority
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_EOS: FinishReason
FINISH_REASON_LENGTH: FinishReason
FINISH_REASON_STOP: FinishReason

class GenerateRequest(_message.Message):
    __slots__ = ("model", "text", "token_ids", "max_new_tokens", "sampling", "stop", "acceptance_rule", "drafting", "want_logprobs", "want_rounds", "ignore_eos", "num_top_logprobs", "priority", "resume_token_ids")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    MAX_NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_RULE_FIELD_NUMBER: _ClassVar[int]
    DRAFTING_FIELD_NUMBER: _ClassVar[int]
    WANT_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    WANT_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    IGNORE_EOS_FIELD_NUMBER: _ClassVar[int]
    NUM_TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    model: str
    text: str
    token_ids: TokenIds
    max_new_tokens: int
    sampling: _sampling_pb2.SamplingParams
    stop: _containers.RepeatedScalarFieldContainer[str]
    acceptance_rule: _sampling_pb2.AcceptanceRule
    drafting: Drafting
    want_logprobs: bool
    want_rounds: bool
    ignore_eos: bool
    num_top_logprobs: int
    priority: Priority
    resume_token_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, model: _Optional[str] = ..., text: _Optional[str] = ..., token_ids: _Optional[_Union[TokenIds, _Mapping]] = ..., max_new_tokens: _Optional[int] = ..., sampling: _Optional[_Union[_sampling_pb2.SamplingParams, _Mapping]] = ..., stop: _Optional[_Iterable[str]] = ..., acceptance_rule: _Optional[_Union[_sampling_pb2.AcceptanceRule, str]] = ..., drafting: _Optional[_Union[Drafting, _Mapping]] = ..., want_logprobs: _Optional[bool] = ..., want_rounds: _Optional[bool] = ..., ignore_eos: _Optional[bool] = ..., num_top_logprobs: _Optional[int] = ..., priority: _Optional[_Union[Priority, str]] = ..., resume_token_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class TokenIds(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class Drafting(_message.Message):
    __slots__ = ("off", "policy")
    OFF_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    off: bool
    policy: _tree_pb2.TreePolicy
    def __init__(self, off: _Optional[bool] = ..., policy: _Optional[_Union[_tree_pb2.TreePolicy, _Mapping]] = ...) -> None: ...

class GenerateReply(_message.Message):
    __slots__ = ("start", "tokens", "round", "finish")
    START_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    start: GenerationStart
    tokens: _containers.RepeatedCompositeFieldContainer[GeneratedToken]
    round: Round
    finish: GenerationFinish
    def __init__(self, start: _Optional[_Union[GenerationStart, _Mapping]] = ..., tokens: _Optional[_Iterable[_Union[GeneratedToken, _Mapping]]] = ..., round: _Optional[_Union[Round, _Mapping]] = ..., finish: _Optional[_Union[GenerationFinish, _Mapping]] = ...) -> None: ...

class GenerationStart(_message.Message):
    __slots__ = ("request_id", "seed", "num_prompt_tokens")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    NUM_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    seed: int
    num_prompt_tokens: int
    def __init__(self, request_id: _Optional[str] = ..., seed: _Optional[int] = ..., num_prompt_tokens: _Optional[int] = ...) -> None: ...

class GeneratedToken(_message.Message):
    __slots__ = ("id", "text", "drafted", "logprob", "top_logprobs")
    ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DRAFTED_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    id: int
    text: str
    drafted: bool
    logprob: float
    top_logprobs: _containers.RepeatedCompositeFieldContainer[TopLogprob]
    def __init__(self, id: _Optional[int] = ..., text: _Optional[str] = ..., drafted: _Optional[bool] = ..., logprob: _Optional[float] = ..., top_logprobs: _Optional[_Iterable[_Union[TopLogprob, _Mapping]]] = ...) -> None: ...

class TopLogprob(_message.Message):
    __slots__ = ("id", "logprob", "text")
    ID_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    id: int
    logprob: float
    text: str
    def __init__(self, id: _Optional[int] = ..., logprob: _Optional[float] = ..., text: _Optional[str] = ...) -> None: ...

class Round(_message.Message):
    __slots__ = ("policy", "num_nodes", "num_accepted", "draft_us", "verify_us", "round_us", "wire_us", "draft_wire_us", "was_hedged", "draft_was_late")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    NUM_NODES_FIELD_NUMBER: _ClassVar[int]
    NUM_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    DRAFT_US_FIELD_NUMBER: _ClassVar[int]
    VERIFY_US_FIELD_NUMBER: _ClassVar[int]
    ROUND_US_FIELD_NUMBER: _ClassVar[int]
    WIRE_US_FIELD_NUMBER: _ClassVar[int]
    DRAFT_WIRE_US_FIELD_NUMBER: _ClassVar[int]
    WAS_HEDGED_FIELD_NUMBER: _ClassVar[int]
    DRAFT_WAS_LATE_FIELD_NUMBER: _ClassVar[int]
    policy: _tree_pb2.TreePolicy
    num_nodes: int
    num_accepted: int
    draft_us: int
    verify_us: int
    round_us: int
    wire_us: int
    draft_wire_us: int
    was_hedged: bool
    draft_was_late: bool
    def __init__(self, policy: _Optional[_Union[_tree_pb2.TreePolicy, _Mapping]] = ..., num_nodes: _Optional[int] = ..., num_accepted: _Optional[int] = ..., draft_us: _Optional[int] = ..., verify_us: _Optional[int] = ..., round_us: _Optional[int] = ..., wire_us: _Optional[int] = ..., draft_wire_us: _Optional[int] = ..., was_hedged: _Optional[bool] = ..., draft_was_late: _Optional[bool] = ...) -> None: ...

class GenerationFinish(_message.Message):
    __slots__ = ("reason", "matched_stop", "usage", "matched_stop_token_id")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MATCHED_STOP_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    MATCHED_STOP_TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    reason: FinishReason
    matched_stop: str
    usage: Usage
    matched_stop_token_id: int
    def __init__(self, reason: _Optional[_Union[FinishReason, str]] = ..., matched_stop: _Optional[str] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., matched_stop_token_id: _Optional[int] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("num_prompt_tokens", "num_new_tokens", "num_rounds", "num_drafted_nodes", "num_accepted_tokens", "draft_us", "verify_us", "wire_us", "queue_us", "time_to_first_token_us", "total_us", "prefill_us", "num_resumed_tokens", "num_draft_sessions", "num_verify_sessions", "reader_us", "cold_start_us", "num_hedged_rounds", "num_late_drafts")
    NUM_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    NUM_DRAFTED_NODES_FIELD_NUMBER: _ClassVar[int]
    NUM_ACCEPTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DRAFT_US_FIELD_NUMBER: _ClassVar[int]
    VERIFY_US_FIELD_NUMBER: _ClassVar[int]
    WIRE_US_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_FIRST_TOKEN_US_FIELD_NUMBER: _ClassVar[int]
    TOTAL_US_FIELD_NUMBER: _ClassVar[int]
    PREFILL_US_FIELD_NUMBER: _ClassVar[int]
    NUM_RESUMED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_DRAFT_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    NUM_VERIFY_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    READER_US_FIELD_NUMBER: _ClassVar[int]
    COLD_START_US_FIELD_NUMBER: _ClassVar[int]
    NUM_HEDGED_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    NUM_LATE_DRAFTS_FIELD_NUMBER: _ClassVar[int]
    num_prompt_tokens: int
    num_new_tokens: int
    num_rounds: int
    num_drafted_nodes: int
    num_accepted_tokens: int
    draft_us: int
    verify_us: int
    wire_us: int
    queue_us: int
    time_to_first_token_us: int
    total_us: int
    prefill_us: int
    num_resumed_tokens: int
    num_draft_sessions: int
    num_verify_sessions: int
    reader_us: int
    cold_start_us: int
    num_hedged_rounds: int
    num_late_drafts: int
    def __init__(self, num_prompt_tokens: _Optional[int] = ..., num_new_tokens: _Optional[int] = ..., num_rounds: _Optional[int] = ..., num_drafted_nodes: _Optional[int] = ..., num_accepted_tokens: _Optional[int] = ..., draft_us: _Optional[int] = ..., verify_us: _Optional[int] = ..., wire_us: _Optional[int] = ..., queue_us: _Optional[int] = ..., time_to_first_token_us: _Optional[int] = ..., total_us: _Optional[int] = ..., prefill_us: _Optional[int] = ..., num_resumed_tokens: _Optional[int] = ..., num_draft_sessions: _Optional[int] = ..., num_verify_sessions: _Optional[int] = ..., reader_us: _Optional[int] = ..., cold_start_us: _Optional[int] = ..., num_hedged_rounds: _Optional[int] = ..., num_late_drafts: _Optional[int] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsReply(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelInfo]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelInfo, _Mapping]]] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("name", "architecture", "dtype", "num_parameters", "vocab_size", "max_context_tokens", "has_drafter", "shared_vocabulary", "max_tree_nodes", "is_cold")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    NUM_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    VOCAB_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    HAS_DRAFTER_FIELD_NUMBER: _ClassVar[int]
    SHARED_VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    MAX_TREE_NODES_FIELD_NUMBER: _ClassVar[int]
    IS_COLD_FIELD_NUMBER: _ClassVar[int]
    name: str
    architecture: str
    dtype: str
    num_parameters: int
    vocab_size: int
    max_context_tokens: int
    has_drafter: bool
    shared_vocabulary: float
    max_tree_nodes: int
    is_cold: bool
    def __init__(self, name: _Optional[str] = ..., architecture: _Optional[str] = ..., dtype: _Optional[str] = ..., num_parameters: _Optional[int] = ..., vocab_size: _Optional[int] = ..., max_context_tokens: _Optional[int] = ..., has_drafter: _Optional[bool] = ..., shared_vocabulary: _Optional[float] = ..., max_tree_nodes: _Optional[int] = ..., is_cold: _Optional[bool] = ...) -> None: ...
