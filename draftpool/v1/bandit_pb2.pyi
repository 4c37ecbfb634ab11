from draftpool.v1 import tree_pb2 as _tree_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DescribeBanditRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeBanditReply(_message.Message):
    __slots__ = ("situations",)
    SITUATIONS_FIELD_NUMBER: _ClassVar[int]
    situations: _containers.RepeatedCompositeFieldContainer[BanditSituation]
    def __init__(self, situations: _Optional[_Iterable[_Union[BanditSituation, _Mapping]]] = ...) -> None: ...

class BanditSituation(_message.Message):
    __slots__ = ("target", "drafter", "sampling", "loads")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    DRAFTER_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    LOADS_FIELD_NUMBER: _ClassVar[int]
    target: str
    drafter: str
    sampling: str
    loads: _containers.RepeatedCompositeFieldContainer[BanditLoad]
    def __init__(self, target: _Optional[str] = ..., drafter: _Optional[str] = ..., sampling: _Optional[str] = ..., loads: _Optional[_Iterable[_Union[BanditLoad, _Mapping]]] = ...) -> None: ...

class BanditLoad(_message.Message):
    __slots__ = ("min_sessions", "max_sessions", "is_current", "num_rounds", "plain_round_s", "arms")
    MIN_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    IS_CURRENT_FIELD_NUMBER: _ClassVar[int]
    NUM_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    PLAIN_ROUND_S_FIELD_NUMBER: _ClassVar[int]
    ARMS_FIELD_NUMBER: _ClassVar[int]
    min_sessions: int
    max_sessions: int
    is_current: bool
    num_rounds: float
    plain_round_s: float
    arms: _containers.RepeatedCompositeFieldContainer[BanditArm]
    def __init__(self, min_sessions: _Optional[int] = ..., max_sessions: _Optional[int] = ..., is_current: _Optional[bool] = ..., num_rounds: _Optional[float] = ..., plain_round_s: _Optional[float] = ..., arms: _Optional[_Iterable[_Union[BanditArm, _Mapping]]] = ...) -> None: ...

class BanditArm(_message.Message):
    __slots__ = ("policy", "num_rounds", "num_tokens", "num_nodes", "depth", "round_s", "reward", "std_error", "index")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    NUM_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_NODES_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    ROUND_S_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    STD_ERROR_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    policy: _tree_pb2.TreePolicy
    num_rounds: float
    num_tokens: float
    num_nodes: float
    depth: float
    round_s: float
    reward: float
    std_error: float
    index: float
    def __init__(self, policy: _Optional[_Union[_tree_pb2.TreePolicy, _Mapping]] = ..., num_rounds: _Optional[float] = ..., num_tokens: _Optional[float] = ..., num_nodes: _Optional[float] = ..., depth: _Optional[float] = ..., round_s: _Optional[float] = ..., reward: _Optional[float] = ..., std_error: _Optional[float] = ..., index: _Optional[float] = ...) -> None: ...
