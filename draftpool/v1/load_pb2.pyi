from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ReplicaLoad(_message.Message):
    __slots__ = ("num_sessions", "max_sessions", "num_waiting", "busy_share", "queue_us", "budget_share")
    NUM_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    NUM_WAITING_FIELD_NUMBER: _ClassVar[int]
    BUSY_SHARE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    BUDGET_SHARE_FIELD_NUMBER: _ClassVar[int]
    num_sessions: int
    max_sessions: int
    num_waiting: int
    busy_share: float
    queue_us: int
    budget_share: float
    def __init__(self, num_sessions: _Optional[int] = ..., max_sessions: _Optional[int] = ..., num_waiting: _Optional[int] = ..., busy_share: _Optional[float] = ..., queue_us: _Optional[int] = ..., budget_share: _Optional[float] = ...) -> None: ...
