from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Vocabulary(_message.Message):
    __slots__ = ("fingerprint", "token_bytes", "eos_token_ids")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_BYTES_FIELD_NUMBER: _ClassVar[int]
    EOS_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    fingerprint: str
    token_bytes: _containers.RepeatedScalarFieldContainer[bytes]
    eos_token_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, fingerprint: _Optional[str] = ..., token_bytes: _Optional[_Iterable[bytes]] = ..., eos_token_ids: _Optional[_Iterable[int]] = ...) -> None: ...
