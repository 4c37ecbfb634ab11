from draftpool.v1 import load_pb2 as _load_pb2
from draftpool.v1 import sampling_pb2 as _sampling_pb2
from draftpool.v1 import tree_pb2 as _tree_pb2
from draftpool.v1 import vocabulary_pb2 as _vocabulary_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class VerifyRequest(_message.Message):
    __slots__ = ("session", "committed_token_ids", "tree", "draft_support")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TREE_FIELD_NUMBER: _ClassVar[int]
    DRAFT_SUPPORT_FIELD_NUMBER: _ClassVar[int]
    session: VerifySession
    committed_token_ids: _containers.RepeatedScalarFieldContainer[int]
    tree: _tree_pb2.DraftTree
    draft_support: _tree_pb2.SparseRows
    def __init__(self, session: _Optional[_Union[VerifySession, _Mapping]] = ..., committed_token_ids: _Optional[_Iterable[int]] = ..., tree: _Optional[_Union[_tree_pb2.DraftTree, _Mapping]] = ..., draft_support: _Optional[_Union[_tree_pb2.SparseRows, _Mapping]] = ...) -> None: ...

class VerifySession(_message.Message):
    __slots__ = ("sampling", "acceptance_rule", "want_logprobs", "model", "vocabulary_fingerprint", "num_prompt_tokens", "num_top_logprobs")
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_RULE_FIELD_NUMBER: _ClassVar[int]
    WANT_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    NUM_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    sampling: _sampling_pb2.SamplingParams
    acceptance_rule: _sampling_pb2.AcceptanceRule
    want_logprobs: bool
    model: str
    vocabulary_fingerprint: str
    num_prompt_tokens: int
    num_top_logprobs: int
    def __init__(self, sampling: _Optional[_Union[_sampling_pb2.SamplingParams, _Mapping]] = ..., acceptance_rule: _Optional[_Union[_sampling_pb2.AcceptanceRule, str]] = ..., want_logprobs: _Optional[bool] = ..., model: _Optional[str] = ..., vocabulary_fingerprint: _Optional[str] = ..., num_prompt_tokens: _Optional[int] = ..., num_top_logprobs: _Optional[int] = ...) -> None: ...

class VerifyReply(_message.Message):
    __slots__ = ("chosen_token_ids", "chosen_logprobs", "timings", "load", "target_probs", "outside_token_ids", "top_token_ids", "top_logprobs", "outside_probs", "support_logprobs")
    CHOSEN_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    TARGET_PROBS_FIELD_NUMBER: _ClassVar[int]
    OUTSIDE_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    OUTSIDE_PROBS_FIELD_NUMBER: _ClassVar[int]
    SUPPORT_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    chosen_token_ids: _containers.RepeatedScalarFieldContainer[int]
    chosen_logprobs: _containers.RepeatedScalarFieldContainer[float]
    timings: VerifyTimings
    load: _load_pb2.ReplicaLoad
    target_probs: _tree_pb2.SparseRows
    outside_token_ids: _containers.RepeatedScalarFieldContainer[int]
    top_token_ids: _containers.RepeatedScalarFieldContainer[int]
    top_logprobs: _containers.RepeatedScalarFieldContainer[float]
    outside_probs: _containers.RepeatedScalarFieldContainer[float]
    support_logprobs: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, chosen_token_ids: _Optional[_Iterable[int]] = ..., chosen_logprobs: _Optional[_Iterable[float]] = ..., timings: _Optional[_Union[VerifyTimings, _Mapping]] = ..., load: _Optional[_Union[_load_pb2.ReplicaLoad, _Mapping]] = ..., target_probs: _Optional[_Union[_tree_pb2.SparseRows, _Mapping]] = ..., outside_token_ids: _Optional[_Iterable[int]] = ..., top_token_ids: _Optional[_Iterable[int]] = ..., top_logprobs: _Optional[_Iterable[float]] = ..., outside_probs: _Optional[_Iterable[float]] = ..., support_logprobs: _Optional[_Iterable[float]] = ...) -> None: ...

class VerifyTimings(_message.Message):
    __slots__ = ("queue_us", "verify_us", "num_passes", "num_computed_tokens", "num_pass_sessions", "num_pass_tokens")
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    VERIFY_US_FIELD_NUMBER: _ClassVar[int]
    NUM_PASSES_FIELD_NUMBER: _ClassVar[int]
    NUM_COMPUTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_PASS_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    NUM_PASS_TOKENS_FIELD_NUMBER: _ClassVar[int]
    queue_us: int
    verify_us: int
    num_passes: int
    num_computed_tokens: int
    num_pass_sessions: int
    num_pass_tokens: int
    def __init__(self, queue_us: _Optional[int] = ..., verify_us: _Optional[int] = ..., num_passes: _Optional[int] = ..., num_computed_tokens: _Optional[int] = ..., num_pass_sessions: _Optional[int] = ..., num_pass_tokens: _Optional[int] = ...) -> None: ...

class DescribeVerifierRequest(_message.Message):
    __slots__ = ("load_only",)
    LOAD_ONLY_FIELD_NUMBER: _ClassVar[int]
    load_only: bool
    def __init__(self, load_only: _Optional[bool] = ...) -> None: ...

class DescribeVerifierReply(_message.Message):
    __slots__ = ("model", "tokenizer_json", "vocabulary", "max_context_tokens", "max_tree_nodes", "num_parameters", "dtype", "architecture", "load")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_JSON_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    MAX_CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_TREE_NODES_FIELD_NUMBER: _ClassVar[int]
    NUM_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    model: str
    tokenizer_json: bytes
    vocabulary: _vocabulary_pb2.Vocabulary
    max_context_tokens: int
    max_tree_nodes: int
    num_parameters: int
    dtype: str
    architecture: str
    load: _load_pb2.ReplicaLoad
    def __init__(self, model: _Optional[str] = ..., tokenizer_json: _Optional[bytes] = ..., vocabulary: _Optional[_Union[_vocabulary_pb2.Vocabulary, _Mapping]] = ..., max_context_tokens: _Optional[int] = ..., max_tree_nodes: _Optional[int] = ..., num_parameters: _Optional[int] = ..., dtype: _Optional[str] = ..., architecture: _Optional[str] = ..., load: _Optional[_Union[_load_pb2.ReplicaLoad, _Mapping]] = ...) -> None: ...
