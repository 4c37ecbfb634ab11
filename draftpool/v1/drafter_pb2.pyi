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

class DraftRequest(_message.Message):
    __slots__ = ("session", "committed_token_ids", "policy")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    session: DraftSession
    committed_token_ids: _containers.RepeatedScalarFieldContainer[int]
    policy: _tree_pb2.TreePolicy
    def __init__(self, session: _Optional[_Union[DraftSession, _Mapping]] = ..., committed_token_ids: _Optional[_Iterable[int]] = ..., policy: _Optional[_Union[_tree_pb2.TreePolicy, _Mapping]] = ...) -> None: ...

class DraftSession(_message.Message):
    __slots__ = ("vocabulary_fingerprint", "sampling", "acceptance_rule")
    VOCABULARY_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_RULE_FIELD_NUMBER: _ClassVar[int]
    vocabulary_fingerprint: str
    sampling: _sampling_pb2.SamplingParams
    acceptance_rule: _sampling_pb2.AcceptanceRule
    def __init__(self, vocabulary_fingerprint: _Optional[str] = ..., sampling: _Optional[_Union[_sampling_pb2.SamplingParams, _Mapping]] = ..., acceptance_rule: _Optional[_Union[_sampling_pb2.AcceptanceRule, str]] = ...) -> None: ...

class DraftReply(_message.Message):
    __slots__ = ("tree", "timings", "load", "draft_probs")
    TREE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    DRAFT_PROBS_FIELD_NUMBER: _ClassVar[int]
    tree: _tree_pb2.DraftTree
    timings: DraftTimings
    load: _load_pb2.ReplicaLoad
    draft_probs: _tree_pb2.SparseRows
    def __init__(self, tree: _Optional[_Union[_tree_pb2.DraftTree, _Mapping]] = ..., timings: _Optional[_Union[DraftTimings, _Mapping]] = ..., load: _Optional[_Union[_load_pb2.ReplicaLoad, _Mapping]] = ..., draft_probs: _Optional[_Union[_tree_pb2.SparseRows, _Mapping]] = ...) -> None: ...

class DraftTimings(_message.Message):
    __slots__ = ("queue_us", "draft_us")
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    DRAFT_US_FIELD_NUMBER: _ClassVar[int]
    queue_us: int
    draft_us: int
    def __init__(self, queue_us: _Optional[int] = ..., draft_us: _Optional[int] = ...) -> None: ...

class RegisterVocabularyRequest(_message.Message):
    __slots__ = ("vocabulary",)
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    vocabulary: _vocabulary_pb2.Vocabulary
    def __init__(self, vocabulary: _Optional[_Union[_vocabulary_pb2.Vocabulary, _Mapping]] = ...) -> None: ...

class RegisterVocabularyReply(_message.Message):
    __slots__ = ("num_shared_tokens", "num_target_tokens")
    NUM_SHARED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_TARGET_TOKENS_FIELD_NUMBER: _ClassVar[int]
    num_shared_tokens: int
    num_target_tokens: int
    def __init__(self, num_shared_tokens: _Optional[int] = ..., num_target_tokens: _Optional[int] = ...) -> None: ...

class DescribeDrafterRequest(_message.Message):
    __slots__ = ("load_only",)
    LOAD_ONLY_FIELD_NUMBER: _ClassVar[int]
    load_only: bool
    def __init__(self, load_only: _Optional[bool] = ...) -> None: ...

class DescribeDrafterReply(_message.Message):
    __slots__ = ("model", "num_parameters", "max_tree_nodes", "session_state_bytes", "load")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NUM_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    MAX_TREE_NODES_FIELD_NUMBER: _ClassVar[int]
    SESSION_STATE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    model: str
    num_parameters: int
    max_tree_nodes: int
    session_state_bytes: int
    load: _load_pb2.ReplicaLoad
    def __init__(self, model: _Optional[str] = ..., num_parameters: _Optional[int] = ..., max_tree_nodes: _Optional[int] = ..., session_state_bytes: _Optional[int] = ..., load: _Optional[_Union[_load_pb2.ReplicaLoad, _Mapping]] = ...) -> None: ...
