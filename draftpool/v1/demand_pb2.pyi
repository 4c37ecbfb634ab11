from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ReportDemandRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReportDemandReply(_message.Message):
    __slots__ = ("orchestrator_id", "num_requests")
    class NumRequestsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ORCHESTRATOR_ID_FIELD_NUMBER: _ClassVar[int]
    NUM_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    orchestrator_id: str
    num_requests: _containers.ScalarMap[str, int]
    def __init__(self, orchestrator_id: _Optional[str] = ..., num_requests: _Optional[_Mapping[str, int]] = ...) -> None: ...
