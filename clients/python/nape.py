"""A client of nape in one file: calls, events and streams with a program written in Rust, both ways.

It speaks version 1 of nape's wire format, in JSON, over a Unix socket, TCP on the loopback, or the pipe that a Head
gives its child. It needs Python 3.9 and nothing else; copy the file to where you need it.

    import nape

    with nape.connect("unix:/run/user/1000/words.sock") as link:
        n = link.call("words.count", "to be or not", timeout=2.0)

Both sides may serve. What is served is an :class:`Api`, and :func:`from_env` is for a child of a Head:

    text = nape.Api("text")

    @text.handle("shout")
    def shout(cx: nape.Context, words: str) -> str:
        return words.upper()

    nape.from_env(serve=[text]).wait()

:func:`connect_async` and :func:`from_env_async` are the same for asyncio.

Every call ends once: with its value, or with a :class:`CallError` that says why there is none. All methods of a
:class:`Link` may be called from any thread; those of an :class:`AsyncLink` belong to the thread of its event loop. A
link belongs to the process that made it: in one that was forked from that, what would use it raises :class:`Misuse`,
and what would end it or a call does nothing.

The file from the bottom up: errors, records of faults, values, what is served, one side of a link as a machine that
does no input and output (``_Machine``), where to connect, and around the machine :class:`Link` with threads and
:class:`AsyncLink` with an event loop.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import contextlib
import contextvars
import dataclasses
import enum
import functools
import hmac
import heapq
import inspect
import ipaddress
import json
import logging
import math
import numbers
import operator
import os
import re
import selectors
import socket
import stat
import struct
import sys
import threading
import time
import types
import unicodedata
import weakref
from typing import (
    Any,
    AsyncIterator,
    Callable,
    Deque,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    TypeVar,
    Union,
)

__version__ = "0.1.0"

__all__ = [
    "Api",
    "AsyncDuplex",
    "AsyncIncoming",
    "AsyncLink",
    "AsyncOutgoing",
    "AsyncUpload",
    "BadArguments",
    "CallError",
    "Cancelled",
    "CloseKind",
    "CloseReason",
    "Closed",
    "Context",
    "Decode",
    "Duplex",
    "Executed",
    "Fault",
    "FaultKind",
    "Incoming",
    "Limits",
    "Link",
    "Misuse",
    "NapeError",
    "NoAnswer",
    "Outgoing",
    "Pending",
    "Poisonous",
    "Raw",
    "Rejected",
    "Rejection",
    "Side",
    "StartError",
    "TimedOut",
    "Token",
    "Upload",
    "connect",
    "connect_async",
    "from_env",
    "from_env_async",
]

_log = logging.getLogger("nape")
_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])
_Body = Union[bytes, bytearray, memoryview]


# Errors.


class NapeError(Exception):
    """Whatever this module raises of its own."""


class StartError(NapeError):
    """No link came about: nobody listens there, or whoever does was not fit, or did not let this side in.

    ``reason`` says more where somebody was reached.
    """

    def __init__(self, text: str, reason: Optional[CloseReason] = None) -> None:
        super().__init__(text)
        self.reason = reason


class Executed(enum.Enum):
    """Whether a call that gave no value may have run on the other side."""

    NO = "no"
    MAYBE = "maybe"


class CloseKind(enum.Enum):
    """How a link ended. The numbers are those of the wire."""

    LOCAL = 1
    PEER = 2
    DIED = 3
    GONE = 4
    IO = 5
    PROTOCOL = 6
    BROKEN = 7
    UNRESPONSIVE = 8
    GAVE_UP = 9
    TURNED_AWAY = 10


@dataclasses.dataclass(frozen=True)
class CloseReason:
    """Why a link is over: one reason for all of its calls.

    ``code`` is the number of the rule for ``PROTOCOL``, that of the operating system for ``IO``, and the code of
    the bye for ``TURNED_AWAY``; else 0.
    """

    kind: CloseKind
    text: str = ""
    code: int = 0

    def __str__(self) -> str:
        return self.text or _CLOSE_TEXTS[self.kind]


_CLOSE_TEXTS = {
    CloseKind.LOCAL: "closed by this side",
    CloseKind.PEER: "closed by the other side",
    CloseKind.DIED: "the process of the other side ended",
    CloseKind.GONE: "the other side is gone",
    CloseKind.IO: "the connection failed",
    CloseKind.PROTOCOL: "a rule of the protocol was broken",
    CloseKind.BROKEN: "internal failure",
    CloseKind.UNRESPONSIVE: "the other side does not answer",
    CloseKind.GAVE_UP: "the supervisor gave up",
    CloseKind.TURNED_AWAY: "turned away",
}


class CallError(NapeError):
    """Why a call gave no value. Each way is a class of its own."""

    # Whether it came from the other side, or over another link.
    _arrived = False


class TimedOut(CallError):
    """The deadline of the call passed, ``after`` seconds; ``executed`` says whether it may have run."""

    def __init__(self, path: str, after: float, executed: Executed) -> None:
        super().__init__(f"{path} timed out after {after:.6g} s")
        self.path, self.after, self.executed = path, after, executed


class Cancelled(CallError):
    """The call was given up, or the other side wants no more items."""

    def __init__(self, text: str = "cancelled") -> None:
        super().__init__(text)


class Closed(CallError):
    """The link is over, and with it every call; ``reason`` is the same for all, ``executed`` is the call's own."""

    def __init__(self, reason: CloseReason, executed: Executed) -> None:
        super().__init__(f"link closed: {reason}")
        self.reason, self.executed = reason, executed


class Rejection(enum.Enum):
    """Why a call was refused before any handler ran. The numbers are those of the wire."""

    NO_HANDLER = 1
    BAD_ARGUMENTS = 2
    BUSY = 3
    TOO_LARGE = 4
    SHUTTING_DOWN = 5
    AMBIGUOUS = 6
    EXPIRED = 7
    DENIED = 8
    MISMATCH = 9


class Rejected(CallError):
    """The call was refused before any handler ran: ``kind`` says why, ``detail`` in words.

    ``path`` is what was called, as far as the other side says so. ``size`` and ``limit`` go with ``TOO_LARGE``.
    """

    def __init__(self, kind: Rejection, path: str = "", detail: str = "", size: int = 0, limit: int = 0) -> None:
        what = kind.name.lower().replace("_", " ")
        if kind is Rejection.TOO_LARGE and not detail:
            detail = f"{size} bytes, and {limit} are the most"
        super().__init__(what + (f" ({path})" if path else "") + (f": {detail}" if detail else ""))
        self.kind, self.path, self.detail, self.size, self.limit = kind, path, detail, size, limit


class FaultKind(enum.Enum):
    """What a :class:`Fault` is made of. The numbers are those of the wire."""

    ERROR = 32
    TYPED = 33
    PANICKED = 34
    CALL = 35
    OTHER = 0


class _Nothing(enum.Enum):
    NOTHING = 0


_NOTHING = _Nothing.NOTHING


class Fault(CallError):
    """The handler failed. A handler raises one, too; any other exception arrives as one without a value.

    ``value`` is the error as a value: what an error type of Rust looks like in JSON. Without one it is ``None``, and
    ``kind`` is not ``TYPED``. ``type_name`` is for people to read, ``chain`` has the texts of the sources, the
    nearest first. ``call_error`` is there where a call failed that the handler itself had made.
    """

    def __init__(
        self,
        message: str,
        value: Any = _NOTHING,
        type_name: str = "",
        chain: Sequence[str] = (),
        kind: Optional[FaultKind] = None,
        call_error: Optional[CallError] = None,
    ) -> None:
        super().__init__(message)
        self._kind = kind or (FaultKind.ERROR if value is _NOTHING else FaultKind.TYPED)
        # Whatever was raised with, an exception for one: what is read of it is text.
        self.message, self.type_name, self.chain = _text(message), _text(type_name), tuple(map(_text, chain))
        self._value: Any = None if value is _NOTHING else value
        self._call_error = call_error
        self.code = self._kind.value
        # Of one that came: its kind, the value or the error of a call as it stands in the record, and how deep in others
        # it is.
        self._unread: Optional[Tuple[FaultKind, bytes, int]] = None

    @property
    def kind(self) -> FaultKind:
        self._read()
        return self._kind

    @property
    def value(self) -> Any:
        self._read()
        return self._value

    @property
    def call_error(self) -> Optional[CallError]:
        self._read()
        return self._call_error

    def _read(self) -> None:
        """Reads what came when somebody asks for it: the thread that takes the answers of all calls has no time."""
        unread = self._unread
        if unread is None:
            return
        kind, body, depth = unread
        if kind is FaultKind.TYPED:
            try:
                self._value = _decode(body)
            except ValueError:
                self._kind = FaultKind.ERROR
        else:
            inner = _inner_record(body)
            self._call_error = _error_of(inner, depth + 1) if inner else None
        # At last: whoever else asks meanwhile reads the same, of what nobody changes.
        self._unread = None

    def __str__(self) -> str:
        return f"the handler panicked: {self.message}" if self._kind is FaultKind.PANICKED else self.message


class NoAnswer(CallError):
    """The handler let go of the call without an answer."""

    def __init__(self) -> None:
        super().__init__("the handler gave no answer")


class Decode(CallError):
    """The value that came is no JSON."""


class Misuse(CallError):
    """The calling code is wrong: a bad path, arguments that have no JSON, or a link of another process."""


class Poisonous(CallError):
    """The call was under way in ``crashes`` crashes in a row, and is not tried again; ``last`` tells of the last."""

    def __init__(self, path: str, crashes: int, last: CloseReason) -> None:
        super().__init__(f"{path} was under way in {crashes} crashes in a row; the last: {last}")
        self.path, self.crashes, self.last = path, crashes, last


def _text(value: object) -> str:
    """What it says of itself, which may be nothing."""
    try:
        return str(value)
    except Exception:
        return f"a {type(value).__name__} that has no text"


class BadArguments(ValueError):
    """What a handler raises to refuse its arguments: the caller gets ``Rejected`` with ``BAD_ARGUMENTS``."""

    def __init__(self, detail: str, expected: str = "") -> None:
        super().__init__(detail)
        self.detail, self.expected = detail, expected


class _Violation(Exception):
    """The other side broke a rule."""

    def __init__(self, code: int, text: str, is_frame: bool = True) -> None:
        super().__init__(text)
        self.code, self.text, self.is_frame = code, text, is_frame


# Records of faults: code u16 | u64 | u64 | number of texts u8 | texts, each: length u16, UTF-8 | value.

_RECORD = struct.Struct("<HQQB")
_MAX_TEXT, _MAX_TEXTS = 4096, 18


class _Record(NamedTuple):
    code: int
    first: int
    second: int
    texts: List[str]
    value: bytes

    def text(self, at: int) -> str:
        return self.texts[at] if at < len(self.texts) else ""


def _cut(text: object) -> bytes:
    data = _text(text).encode("utf-8", "replace")
    return data if len(data) <= _MAX_TEXT else data[:_MAX_TEXT].decode("utf-8", "ignore").encode()


def _write_record(
    code: int, first: int = 0, second: int = 0, texts: Sequence[object] = (), value: bytes = b""
) -> bytes:
    out = bytearray(_RECORD.pack(code, first & _ALL_ONES, second & _ALL_ONES, len(texts[:_MAX_TEXTS])))
    for text in texts[:_MAX_TEXTS]:
        data = _cut(text)
        out += struct.pack("<H", len(data)) + data
    return bytes(out + value)


def _read_record(body: bytes) -> _Record:
    if len(body) < _RECORD.size:
        raise _Violation(11, "a fault is cut off")
    code, first, second, n = _RECORD.unpack_from(body)
    at = _RECORD.size
    texts: List[str] = []
    for _ in range(n):
        end = at + 2 + int.from_bytes(body[at : at + 2], "little")
        if at + 2 > len(body) or end > len(body):
            raise _Violation(11, "a fault is cut off")
        if len(texts) < _MAX_TEXTS:
            texts.append(_cut(body[at + 2 : end].decode("utf-8", "replace")).decode())
        at = end
    return _Record(code, first, second, texts, body[at:])


def _inner_record(value: bytes) -> Optional[_Record]:
    try:
        return _read_record(value)
    except _Violation:
        return None


def _reason_of(record: _Record) -> CloseReason:
    try:
        kind = CloseKind(record.first & 0xFF)
    except ValueError:
        return CloseReason(CloseKind.BROKEN, f"ended for the unknown reason {record.first & 0xFF}")
    text = record.text(0)
    if kind is CloseKind.DIED and len(record.value) >= 5:
        how, which = record.value[0], int.from_bytes(record.value[1:5], "little", signed=True)
        told = {1: f"exit code {which}", 2: f"signal {which}"}.get(how, "an unknown end")
        text = f"the process of the other side ended: {told}" + (f"; the last of its stderr: {text}" if text else "")
    return CloseReason(kind, text, record.first >> 8)


def _executed(number: int) -> Executed:
    return Executed.MAYBE if number else Executed.NO


def _error_of(record: _Record, depth: int = 0) -> CallError:
    """The error that a record tells of."""
    error = _error_at(record, depth)
    error._arrived = True
    return error


def _error_at(record: _Record, depth: int) -> CallError:
    code = record.code
    if 1 <= code <= 9:
        kind = Rejection(code)
        detail = record.text(1)
        if kind is Rejection.BAD_ARGUMENTS:
            expected = f"expected {record.text(1)}" if record.text(1) else ""
            detail = "; ".join(part for part in (expected, record.text(2)) if part)
        elif kind is Rejection.AMBIGUOUS:
            detail = f"{record.first} catch-alls claim it"
        elif kind is Rejection.MISMATCH:
            detail = f"the other side has {record.text(1)}, and was called with {record.text(2) or 'something else'}"
        size, limit = (record.first, record.second) if kind is Rejection.TOO_LARGE else (0, 0)
        path = "" if kind is Rejection.TOO_LARGE else record.text(0)
        return Rejected(kind, path, "" if kind is Rejection.TOO_LARGE else detail, size, limit)
    if code == 16:
        return NoAnswer()
    if code == 48:
        return TimedOut(record.text(0), record.first / 1e6, _executed(record.second))
    if code == 49:
        return Cancelled()
    if code == 50:
        return Closed(_reason_of(record), _executed(record.second))
    if code == 51:
        return Decode(record.text(0))
    if code == 52:
        return Misuse(": ".join([_MISUSES.get(record.first & 0xFF, "misuse")] + record.texts))
    if code == 53:
        inner = _inner_record(record.value)
        last = _reason_of(inner) if inner and inner.code == 50 else CloseReason(CloseKind.GONE)
        return Poisonous(record.text(0), record.first, last)
    return _fault_of(record, depth)


_MISUSES = {
    1: "bad path",
    2: "the arguments do not encode",
    3: "the value was taken already",
    4: "the call would wait for itself",
    5: "no thread could be started",
    6: "the link belongs to the process from which this one was forked",
    7: "an item of a stream cannot be sent",
}


def _fault_of(record: _Record, depth: int) -> Fault:
    kind = FaultKind(record.code) if record.code in (32, 33, 34, 35) else FaultKind.OTHER
    fault = Fault(record.text(0), _NOTHING, record.text(1), record.texts[2:], kind)
    if kind is FaultKind.TYPED or kind is FaultKind.CALL and depth < 32:
        fault._unread = (kind, record.value, depth)
    fault.code = record.code
    return fault


def _record_of_error(error: CallError, depth: int = 0) -> bytes:
    """An error of a call, as it stands in the record of the handler that made the call."""
    if isinstance(error, TimedOut):
        micros = max(0, round(error.after * 1e6))
        return _write_record(48, micros, error.executed is Executed.MAYBE, [error.path])
    if isinstance(error, Closed):
        why = error.reason
        return _write_record(50, why.kind.value | why.code << 8, error.executed is Executed.MAYBE, [why.text])
    if isinstance(error, Rejected):
        if error.kind is Rejection.TOO_LARGE:
            return _write_record(4, error.size, error.limit)
        texts = [error.path, "", error.detail] if error.kind is Rejection.BAD_ARGUMENTS else [error.path, error.detail]
        return _write_record(error.kind.value, 0, 0, texts)
    if isinstance(error, Fault):
        return _record_of_fault(error, depth)
    if isinstance(error, Poisonous):
        last = _write_record(50, error.last.kind.value | error.last.code << 8, 1, [error.last.text])
        return _write_record(53, error.crashes, 0, [error.path], last)
    if isinstance(error, Decode):
        return _write_record(51, 0, 0, [str(error)])
    if isinstance(error, Misuse):
        return _write_record(52, 2, 0, ["", str(error)])
    return _write_record(16 if isinstance(error, NoAnswer) else 49)


def _record_of_fault(fault: Fault, depth: int) -> bytes:
    texts = [fault.message, fault.type_name, *fault.chain]
    if fault.kind is FaultKind.TYPED:
        try:
            return _write_record(33, 0, 0, texts, _encode(fault.value))
        except Exception:
            return _write_record(32, 0, 0, texts)
    if fault.kind is FaultKind.CALL and fault.call_error is not None and depth < 32:
        return _write_record(35, 0, 0, texts, _record_of_error(fault.call_error, depth + 1))
    return _write_record(34 if fault.kind is FaultKind.PANICKED else 32, 0, 0, texts)


def _record_of_failure(error: BaseException, path: str) -> bytes:
    """What the caller of a handler is told that raised this."""
    if isinstance(error, BadArguments):
        return _write_record(2, 0, 0, [path, error.expected, error.detail])
    if isinstance(error, Fault) and not error._arrived:
        return _record_of_fault(error, 0)
    chain: List[str] = []
    source = error.__cause__ or error.__context__
    while source is not None and len(chain) < 16:
        chain.append(_text(source) or type(source).__name__)
        source = source.__cause__ or source.__context__
    texts = [_text(error) or type(error).__name__, f"{type(error).__module__}.{type(error).__qualname__}", *chain]
    if isinstance(error, CallError):
        return _write_record(35, 0, 0, texts, _record_of_error(error))
    return _write_record(32, 0, 0, texts)


# Values.


class Raw(bytes):
    """Bytes that stand for arguments or a result as they are, for a side that means raw bytes."""


def _default(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"a {type(value).__name__} has no JSON")


def _encode(value: Any) -> bytes:
    """One value as JSON; bytes are a text in base64, a dataclass is an object. Raises ``ValueError``."""
    if isinstance(value, Raw):
        return value
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_default)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _decode(body: bytes) -> Any:
    """The value of a JSON text; nothing at all is ``None``. Raises ``ValueError``."""
    if not body:
        return None
    try:
        return json.loads(body.decode(), parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _is_path(path: str) -> bool:
    def bad(character: str) -> bool:
        return character.isspace() or unicodedata.category(character) in ("Cc", "Cs")

    # The second look is for what has no UTF-8, which `category` has ruled out.
    return all(path.split(".")) and not any(map(bad, path)) and 0 < len(path.encode()) <= 255


@functools.lru_cache(1024)
def _check_path(path: str) -> bytes:
    if not _is_path(path):
        raise Misuse(f"bad path: {path!r}")
    return path.encode()


# What is served.


class _Way(enum.IntEnum):
    """Who sends items: nobody, the caller, whoever serves, both."""

    NONE = 0
    SENDS = 1
    TAKES = 2
    BOTH = 3


_WAY_TEXTS = {
    _Way.NONE: "a call",
    _Way.SENDS: "a call that sends items",
    _Way.TAKES: "a call that takes items",
    _Way.BOTH: "a call that sends and takes items",
}


@dataclasses.dataclass(frozen=True)
class _Handler:
    way: _Way
    function: Callable[..., Any]
    raw: bool


class Api:
    """What is served: handlers by name under a dotted namespace.

    A handler takes a :class:`Context` and one value, the decoded arguments: several arguments come as a list. Under
    an :class:`AsyncLink` handlers may be coroutine functions, and those of streams must be.
    """

    def __init__(self, namespace: str) -> None:
        _check_path(namespace)
        self.namespace = namespace
        self._handlers: Dict[str, _Handler] = {}

    def _add(self, name: str, way: _Way, raw: bool) -> Callable[[_F], _F]:
        path = f"{self.namespace}.{name}"
        _check_path(path)
        if path in self._handlers:
            raise ValueError(f"{path} is served already")

        def add(function: _F) -> _F:
            self._handlers[path] = _Handler(way, function, raw)
            return function

        return add

    def handle(self, name: str, raw: bool = False) -> Callable[[_F], _F]:
        """For calls and events: ``function(cx, value)`` returns the result. With ``raw`` the value is bytes."""
        return self._add(name, _Way.NONE, raw)

    def stream(self, name: str) -> Callable[[_F], _F]:
        """For who takes items: a generator function ``function(cx, value)``. It is paused when nobody takes them."""
        return self._add(name, _Way.TAKES, False)

    def upload(self, name: str) -> Callable[[_F], _F]:
        """For who sends items: ``function(cx, value, incoming)`` iterates over them and returns the result."""
        return self._add(name, _Way.SENDS, False)

    def duplex(self, name: str) -> Callable[[_F], _F]:
        """For both: ``function(cx, value, incoming, outgoing)`` returns the result."""
        return self._add(name, _Way.BOTH, False)


class Context:
    """What a handler may see of its call."""

    def __init__(self, link: Any, served: _Served) -> None:
        self.link = link
        """The link over which the call came, to call back on: a :class:`Link` or an :class:`AsyncLink`."""
        self._served = served

    @property
    def path(self) -> str:
        """What was called."""
        return self._served.path

    @property
    def is_event(self) -> bool:
        """Whether nobody waits for an answer, because it is an event."""
        return self._served.is_event

    @property
    def attempt(self) -> int:
        """0 for the first attempt; more for a call that is safe to repeat and was sent again."""
        return self._served.attempt

    @property
    def is_cancelled(self) -> bool:
        """Whether the caller has given up, or the link is over."""
        served = self._served
        return served.cancelled or served.is_event and served.machine.reason is not None

    def remaining(self) -> Optional[float]:
        """Seconds that are left until the deadline of the caller; ``None`` without one."""
        deadline = self._served.deadline
        return None if deadline is None else max(0.0, deadline - time.monotonic())


_current: contextvars.ContextVar[Optional[_Served]] = contextvars.ContextVar("nape_current", default=None)
"""The call that the code that runs here serves: calls that it makes descend from that one."""


# One side of a link.


class Side(enum.IntEnum):
    """Which end of a link this is. Apart from ids and who begins they can do the same things."""

    HEAD = 0
    NECK = 1


@dataclasses.dataclass(frozen=True)
class Limits:
    """How much, and for how long. Times are in seconds. What is no number raises ``TypeError`` here already."""

    timeout: Optional[float] = 30.0
    """Of a call that is given none of its own; ``None`` for no limit."""
    start_timeout: float = 10.0
    """How long the other side may take until it has greeted and is ready."""
    grace: float = 2.0
    """How long a close waits for what is to leave, and for handlers."""
    message_limit: int = 16 << 20
    """The largest message in either direction, in bytes."""
    in_flight: int = 1024
    """How many calls are under way at most; further ones wait for their turn."""
    send_queue: int = 4096
    """How many calls and events may wait to leave; further ones are refused as busy."""
    send_queue_bytes: int = 64 << 20
    """How many bytes of them, and how many bytes of answers: when so many of those wait, calls are refused as busy."""
    served_calls: int = 1024
    """How many calls of the other side are served or wait at most; further ones are refused as busy."""
    received_bytes: int = 34 << 20
    """How many bytes of arguments they have, or one message if that is more; further ones are refused as busy."""
    workers: int = 4
    """How many handlers run at a time. Calls that descend from one of ours get a thread more when all are busy."""
    stream_items: int = 64
    """How many items of a stream may wait to be taken; where they are sent, how many may wait to leave: 1 to 2^30."""
    stream_bytes: int = 1 << 20
    """How many bytes of them: 1 to 2^30."""
    heartbeat: Optional[Tuple[float, float]] = None
    """After how long a silence to ask whether the other side is well, and how long after that to give it up, should it
    still be silent; each at least 0.01. While this process itself stands still, no time passes for the other side."""

    def __post_init__(self) -> None:
        # Amid an action it would end the link.
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        timeout, heartbeat = values.pop("timeout"), values.pop("heartbeat")
        if timeout is not None:
            values["timeout"] = timeout
        if heartbeat is not None:
            values["heartbeat[0]"], values["heartbeat[1]"] = heartbeat
        for name, value in values.items():
            _check_number(name, value)
        for name in ("stream_items", "stream_bytes"):
            if not 1 <= operator.index(values[name]) <= _MOST_QUOTA:
                raise ValueError(f"{name} is {values[name]}, and 1 to {_MOST_QUOTA} will do")


def _check_number(name: str, value: object) -> None:
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is a {type(value).__name__}, and no number")
    # One that is too large for that raises by itself.
    if math.isnan(float(value)):
        raise ValueError(f"{name} is not a number")


class _Kind(enum.IntEnum):
    HELLO = 1
    READY = 2
    CALL = 3
    EVENT = 4
    REPLY = 5
    FAULT = 6
    CANCEL = 7
    CREDIT = 8
    ITEMS = 9
    END = 10
    PING = 11
    PONG = 12
    GO_AWAY = 13
    BYE = 14
    OPEN = 15
    QUOTA = 16
    STOP = 17


_FREE = frozenset({_Kind.HELLO, _Kind.READY, _Kind.CREDIT, _Kind.GO_AWAY, _Kind.BYE})
"""What goes beside the window."""
_STARTS = frozenset({_Kind.CALL, _Kind.EVENT, _Kind.OPEN})
_CUT = _STARTS | {_Kind.REPLY, _Kind.FAULT, _Kind.ITEMS}
_MORE, _CONTINUES, _OPTIONAL = 1, 2, 4

_HEADER = struct.Struct("<IBBHQII")
_HELLO = struct.Struct("<4sBBHHHI16s")
_CALL_HEAD = struct.Struct("<QQI")
_OPEN_HEAD = struct.Struct("<BII")
_QUOTA = struct.Struct("<II")
_FRAME_LIMIT = 61_440
_BODY_LIMIT = _FRAME_LIMIT - _HEADER.size
_ALL_ONES = (1 << 64) - 1
_NECK_BIT = 1 << 63
_MOD = 1 << 32
_MOST_QUOTA = 1 << 30
_WINDOW_FRAMES, _WINDOW_BYTES, _WINDOW_LARGE = 96, 98_304, 4
_UNFINISHED = 3
"""How many messages are cut at a time, beside one of items."""
_PART_LIMIT = 30.0
_BUDGET = 20_000
_OF_A_CALL, _OF_A_STREAM = 1, 4
"""What may follow from a call, its cancel, and from a stream: a cancel, a stop, and quotas on their way at its end."""
_MOST_EARNED = 1 << 20
_LEAST_UNREAD = 2048
_LEAST_BEAT = 0.01
_NO_TIMEOUT = 1e12
"""From so many seconds on, and for infinity, a call has no deadline."""
_MOST_PONGS = 64
_MOST_NOTES = 64
"""How many records for the log may wait to be written."""


def _has_room(frames: int, n_bytes: int) -> bool:
    return frames < _WINDOW_FRAMES and (n_bytes < _WINDOW_BYTES or frames < _WINDOW_LARGE)


def _owes_credit(frames: int, n_bytes: int) -> bool:
    enough = n_bytes >= _WINDOW_BYTES // 2 and frames >= _WINDOW_LARGE // 2
    return frames >= _WINDOW_FRAMES // 2 or enough


def _frame(kind: int, flags: int, id: int, read: Tuple[int, int], body: _Body) -> bytes:
    """One frame as it goes over the wire."""
    length = len(body) + _HEADER.size - 4
    return _HEADER.pack(length, kind, flags, 0, id, read[0] % _MOD, read[1] % _MOD) + body


def _hello(side: Side, token: bytes) -> bytes:
    library = b"python " + __version__.encode()
    return _HELLO.pack(b"NAPE", side, 2, 0, 1, 1, 1, token) + bytes([len(library)]) + library


def _check_hello(body: bytes, side: Side, token: bytes) -> None:
    """Judges the greeting of the other side of ``side``, in the order that the wire format gives."""
    if body[:4] != b"NAPE"[: len(body)] or not body:
        raise _Violation(1, "whoever is there speaks something else")
    if len(body) < _HELLO.size:
        raise _Violation(3, "a hello is cut off")
    _, theirs, codec, zero, low, high, features, shown = _HELLO.unpack_from(body)
    if theirs != 1 - side:
        raise _Violation(1, "both are on the same side of the link")
    if low > high:
        raise _Violation(3, "the versions of a hello are upside down")
    if not low <= 1 <= high:
        raise _Violation(2, f"the other side speaks the versions {low} to {high}, and this one speaks 1")
    if zero:
        raise _Violation(10, "reserved bits of a hello are set", is_frame=False)
    if codec not in (1, 2):
        raise _Violation(3, f"the codec {codec} is unknown")
    if not hmac.compare_digest(shown, token):
        raise _Violation(5, "the token is not the right one")
    if len(body) <= _HELLO.size or len(body) < _HELLO.size + 1 + body[_HELLO.size]:
        raise _Violation(3, "a hello is cut off")
    if codec == 1 and not features & 1:
        raise _Violation(21, "JSON is asked for as the codec, and not taken")
    if features & 0xFE:
        raise _Violation(22, "the other side has filters, and this one has none")


class _Signal:
    """Something to wait for; one for threads and one for tasks."""

    def set(self) -> None:
        raise NotImplementedError

    def clear(self) -> None:
        raise NotImplementedError


class _Message:
    """A message on its way out."""

    __slots__ = ("kind", "id", "body", "at", "call", "served", "dead")

    def __init__(self, kind: _Kind, id: int, body: Union[bytes, bytearray]) -> None:
        self.kind, self.id, self.body = kind, id, body
        self.at = 0
        self.call: Optional[_Call] = None
        self.served: Optional[_Served] = None
        self.dead = False


class _Call:
    """A call of ours."""

    __slots__ = (
        "id", "path", "started", "deadline", "executed", "message", "on_done", "is_done", "value", "error", "inflow",
        "outflow", "way", "parent", "left", "ended",
    )  # fmt: skip

    def __init__(self, path: str, started: float, deadline: Optional[float]) -> None:
        self.id = 0
        self.path, self.started, self.deadline = path, started, deadline
        self.message: Optional[_Message] = None
        self.on_done: Optional[Callable[[_Call], None]] = None
        self.is_done = False
        self.value = b""
        self.error: Optional[CallError] = None
        self.inflow: Optional[_Inflow] = None
        self.outflow: Optional[_Outflow] = None
        self.way = _Way.NONE
        self.parent: Optional[_Served] = None
        # Whether anything of it was sent.
        self.left = False


class _Served:
    """A call or an event of the other side."""

    __slots__ = (
        "id", "path", "is_event", "deadline", "attempt", "way", "descends", "cancelled", "answered", "children",
        "inflow", "outflow", "machine", "on_cancel", "n_bytes",
    )  # fmt: skip

    def __init__(self, machine: _Machine, id: int, path: str, is_event: bool) -> None:
        self.machine, self.id, self.path, self.is_event = machine, id, path, is_event
        self.deadline: Optional[float] = None
        self.attempt = 0
        self.way = _Way.NONE
        # Whether it descends from a call of ours that is under way.
        self.descends = False
        self.cancelled = False
        self.answered = False
        self.children: Set[_Call] = set()
        self.inflow: Optional[_Inflow] = None
        self.outflow: Optional[_Outflow] = None
        self.on_cancel: Optional[Callable[[], None]] = None
        # Of its arguments, until it is answered.
        self.n_bytes = 0


class _Inflow:
    """Where the items of a stream come in."""

    __slots__ = (
        "id", "signal", "queue", "granted", "came", "taken", "told", "first", "ended", "over", "error", "deaf", "begun",
    )  # fmt: skip

    def __init__(self, id: int, signal: _Signal, at_caller: bool) -> None:
        self.id, self.signal = id, signal
        # Before that a caller says nothing of its items: the other side may not know the call yet.
        self.begun = not at_caller
        self.queue: Deque[bytes] = collections.deque()
        # Totals of items and of bytes.
        self.granted, self.came, self.taken, self.told, self.first = (0, 0), (0, 0), (0, 0), (0, 0), (0, 0)
        self.ended = False
        # Nothing comes behind what is in the queue, and why.
        self.over = False
        self.error: Optional[CallError] = None
        self.deaf = False


class _Outflow:
    """Where the items of a stream go out."""

    __slots__ = (
        "id", "signal", "queue", "n_bytes", "most", "held", "quota", "sent", "ended", "over", "answer", "at_caller",
        "waits", "begun",
    )  # fmt: skip

    def __init__(self, id: int, signal: _Signal, limits: Limits, at_caller: bool) -> None:
        self.id, self.signal, self.at_caller = id, signal, at_caller
        # How much is in the queue, and how much may be: what the other side has granted is its own affair.
        self.n_bytes, self.most = 0, (limits.stream_items, limits.stream_bytes)
        # Somebody waits for room in it.
        self.held = False
        # As for what comes in.
        self.begun = not at_caller
        self.queue: Deque[bytes] = collections.deque()
        # Totals of items and of bytes; what waits in the queue counts as sent.
        self.quota, self.sent = (0, 0), (0, 0)
        self.ended = False
        self.over: Optional[CallError] = None
        # Goes behind the items.
        self.answer: Optional[_Message] = None
        # It has a place in the line.
        self.waits = False

    def has_room(self) -> bool:
        is_granted = self.sent[0] < self.quota[0] and self.sent[1] < self.quota[1]
        self.held = bool(self.queue) and (len(self.queue) >= self.most[0] or self.n_bytes >= self.most[1])
        return is_granted and not self.held

    def take(self) -> bytes:
        item = self.queue.popleft()
        self.n_bytes -= len(item)
        return item

    def clear(self) -> None:
        self.queue.clear()
        self.n_bytes = 0


class _Machine:
    """One side of one link. It takes bytes and the time, and gives bytes and things to do.

    It does not lock, wait, read a clock or run code of its user: whoever drives it calls it from one thread at a
    time, sends what :meth:`take_output` gives, runs what :meth:`take_todo` gives, and comes back at :meth:`due`.
    What can go wrong it gives, and does not raise, but for a bad path.
    """

    def __init__(
        self,
        side: Side,
        tokens: Tuple[bytes, bytes],
        limits: Limits,
        now: float,
        new_signal: Callable[[], _Signal],
        dispatch: Callable[[_Served, _Handler, bytes], None],
        aside: Callable[[Callable[[], None]], None] = lambda job: job(),
    ) -> None:
        self.side, self.limits, self.new_signal, self.dispatch = side, limits, new_signal, dispatch
        self.aside = aside
        self.handlers: Dict[str, _Handler] = {}
        self._ours, self._theirs = tokens
        self._own_bit = _NECK_BIT if side is Side.NECK else 0
        self.greeted = self.peer_ready = self.peer_going_away = self.going_away = False
        self.reason: Optional[CloseReason] = None
        # Nothing is read any more; what take_output still gives is the last.
        self.closed = False
        self._closing_by: Optional[float] = None
        self._todo: List[Callable[[], None]] = []
        self._notes: Deque[Tuple[int, str, Tuple[object, ...]]] = collections.deque()
        # In.
        self._buffer = bytearray()
        self._part_since: Optional[float] = None
        self._inbox: Dict[Tuple[int, int], Optional[bytearray]] = {}
        self._inbox_bytes = 0
        self._last_seen = 0
        self.served: Dict[int, _Served] = {}
        # Of arguments until the answer, and of answers until they have left.
        self._served_bytes = self._answer_bytes = 0
        self.n_unhandled = self.n_late_replies = self.n_late_items = 0
        self._budget, self._budget_at = float(_BUDGET), now
        # What was paid in advance.
        self._earned = 0
        # Out.
        self._control: Deque[Tuple[_Kind, int, bytes]] = collections.deque()
        self._answers: Deque[_Message] = collections.deque()
        self._starts: Deque[_Message] = collections.deque()
        self._slow: Deque[_Message] = collections.deque()
        self._bulk: Deque[_Message] = collections.deque()
        self._flowing: Deque[_Outflow] = collections.deque()
        self._items: Optional[Tuple[_Outflow, _Message]] = None
        self._last_words = b""
        self._waiting, self._waiting_bytes = 0, 0
        self._quick_events = self._slow_events = self._n_dead = 0
        self._turn = 0
        self._sent = self._acknowledged = self._read = self._told = (0, 0)
        # Calls.
        self.pending: Dict[int, _Call] = {}
        self._counter = 0
        self._in_flight = 0
        self._deadlines: List[Tuple[float, int]] = []
        self._greet_by: Optional[float] = now + limits.start_timeout
        beat = limits.heartbeat
        self._beat = beat and (max(_LEAST_BEAT, beat[0]), max(_LEAST_BEAT, beat[1]))
        self._heard, self._pinged, self._n_pings = now, now, 0
        # Since when a ping waits for an answer.
        self._asked: Optional[float] = None
        self._control.append((_Kind.HELLO, 0, _hello(side, self._ours)))
        self._control.append((_Kind.READY, 0, b""))

    # For whoever drives it.

    def take_todo(self) -> List[Callable[[], None]]:
        """What is to be run once no lock is held."""
        todo, self._todo = self._todo, []
        return todo

    def move_todo(self, to: Deque[Callable[[], None]]) -> None:
        """The same, for one who may be cut off: then it is twice there rather than lost."""
        to.extend(self._todo)
        self._todo.clear()

    def due(self) -> Optional[float]:
        """When to come back at the latest."""
        while self._deadlines and self._stale(self._deadlines[0]):
            heapq.heappop(self._deadlines)
        times = [self._deadlines[0][0]] if self._deadlines else []
        if self._greet_by is not None:
            times.append(self._greet_by)
        if self._closing_by is not None:
            times.append(self._closing_by)
        if self._part_since is not None:
            times.append(self._part_since + _PART_LIMIT)
        if self._beat is not None and self.greeted:
            interval, limit = self._beat
            times.append(max(self._heard, self._pinged) + interval)
            if self._asked is not None:
                times.append(self._asked + limit)
        return None if self.closed or not times else min(times)

    def _stale(self, entry: Tuple[float, int]) -> bool:
        call = self.pending.get(entry[1])
        return call is None or call.deadline != entry[0]

    def tick(self, now: float) -> None:
        """Does what is due."""
        if self.closed:
            return
        while self.due() is not None and self._deadlines and self._deadlines[0][0] <= now:
            call = self.pending[heapq.heappop(self._deadlines)[1]]
            self._time_out(call, now)
        if self._greet_by is not None and self._greet_by <= now:
            if not self.greeted:
                return self._break_off(_Violation(3, "the other side has not greeted in time"))
            self._greet_by = None
        if self._part_since is not None and self._part_since + _PART_LIMIT <= now:
            return self.lose(CloseReason(CloseKind.PROTOCOL, "a frame was begun and did not go on", 20))
        if self._closing_by is not None and self._closing_by <= now:
            return self._say_bye(0, CloseReason(CloseKind.LOCAL))
        if self._beat is not None and self.greeted:
            self._ask_or_give_up(now, *self._beat)

    def _ask_or_give_up(self, now: float, interval: float, limit: float) -> None:
        if self._asked is not None and self._asked + limit <= now:
            if now < self._pinged + 2 * interval:
                return self._say_bye(0, CloseReason(CloseKind.UNRESPONSIVE))
            # It is this side that stood still, and has not looked: the other one gets its time again.
            self._asked = None
        if max(self._heard, self._pinged) + interval <= now:
            self._pinged, self._n_pings = now, self._n_pings + 1
            if self._asked is None:
                self._asked = now
            self._control.append((_Kind.PING, self._n_pings, b""))

    def feed(self, data: bytes, now: float) -> None:
        """Takes what has come."""
        if self.closed:
            return
        self._heard, self._asked = now, None
        self._buffer += data
        try:
            at = self._take_frames(now)
        except _Violation as violation:
            if not self.greeted and violation.is_frame and violation.code in (7, 8, 9, 10):
                violation = _Violation(1, "whoever is there speaks something else")
            return self._break_off(violation)
        if self.closed:
            return
        if at:
            del self._buffer[:at]
            self._part_since = None
        if self._buffer and self._part_since is None:
            self._part_since = now

    def _take_frames(self, now: float) -> int:
        buffer, at = self._buffer, 0
        while len(buffer) - at >= 4 and not self.closed:
            length = int.from_bytes(buffer[at : at + 4], "little") + 4
            if length < _HEADER.size:
                raise _Violation(9, "a frame is shorter than its header")
            if length > _FRAME_LIMIT:
                raise _Violation(8, "a frame is over its limit")
            if len(buffer) - at < length:
                break
            header = _HEADER.unpack_from(buffer, at)
            body = bytes(memoryview(buffer)[at + _HEADER.size : at + length])
            at += length
            self._take_frame(header, body, length, now)
        return at

    def end_of_stream(self) -> None:
        """The other side has hung up."""
        if self.greeted:
            return self.lose(CloseReason(CloseKind.GONE))
        self.lose(CloseReason(CloseKind.PROTOCOL, "the other side hung up before it had greeted", 6))

    def lose(self, reason: CloseReason) -> None:
        """Ends the link, and with it everything."""
        if self.closed:
            return
        self.closed = True
        self._closing_by = None
        self._end_calls(reason)
        self._cancel_calls_served()
        for lane in (self._answers, self._starts, self._slow, self._bulk):
            lane.clear()
        self._control.clear()
        self._flowing.clear()
        self._inbox.clear()
        self._items = None
        self._waiting = self._waiting_bytes = 0

    def break_down(self, reason: CloseReason) -> None:
        """Ends the link behind an action that was cut off half way. Whoever waits is told, be it once more."""
        calls: List[Union[_Call, _Served]] = [*self.pending.values(), *self.served.values()]
        for each in calls:
            for flow in (each.inflow, each.outflow):
                if flow is not None:
                    self._todo.append(flow.signal.set)
        # What had begun to end does so again; and this, too, may have been cut off before.
        for call in self.pending.values():
            call.is_done = False
        self.closed = False
        self.lose(reason)
        self._last_words = b""

    def close(self, now: float) -> None:
        """Ends this side's calls. What else waits may leave within the grace."""
        if self.closed or self._closing_by is not None:
            return
        self._closing_by = now + self.limits.grace
        self._end_calls(CloseReason(CloseKind.LOCAL))
        self._cancel_calls_served()

    def hang_up(self) -> None:
        """Ends it at once."""
        if not self.closed:
            self._say_bye(0, CloseReason(CloseKind.LOCAL))

    def go_away(self) -> None:
        """Asks for no new calls and events, and takes none."""
        if not self.going_away and not self.closed:
            self.going_away = True
            self._control.append((_Kind.GO_AWAY, 0, b""))

    def is_idle(self) -> bool:
        """Whether no call is under way in either direction, and no event waits."""
        return self.closed or not (self.pending or self.served) and self._is_drained()

    def _end_calls(self, reason: CloseReason) -> None:
        if self.reason is None:
            self.reason = reason
        for call in list(self.pending.values()):
            executed = Executed.MAYBE if call.left else Executed.NO
            self._give_up(call, Closed(self.reason, executed), say=False)

    def _note(self, level: int, text: str, *arguments: object) -> None:
        """Logs it, aside: whatever handles the records is code of the user, may block, and may use this link."""
        self._todo.append(lambda: self._pass_on(level, text, arguments))

    def _pass_on(self, level: int, text: str, arguments: Tuple[object, ...]) -> None:
        if _log.isEnabledFor(level) and len(self._notes) < _MOST_NOTES:
            self._notes.append((level, text, arguments))
            self.aside(self._write_note)

    def _write_note(self) -> None:
        level, text, arguments = self._notes.popleft()
        _log.log(level, text, *arguments)

    def _break_off(self, violation: _Violation) -> None:
        self._note(logging.WARNING, "link closed over a broken rule: %s", violation.text)
        self._say_bye(violation.code, CloseReason(CloseKind.PROTOCOL, violation.text, violation.code))

    def _say_bye(self, code: int, reason: CloseReason) -> None:
        """The end of this side, and its last words."""
        self._last_words = _frame(_Kind.BYE, 0, 0, self._read, struct.pack("<H", code))
        self.lose(reason)

    def _earn(self, frames: int) -> None:
        """So many may follow from what has happened now."""
        self._earned = min(_MOST_EARNED, self._earned + frames)

    def _earn_rest(self, inflow: Optional[_Inflow]) -> None:
        """A stream is forgotten of which the other side may send what it was granted, and an end."""
        if inflow is not None and not inflow.ended:
            self._earn(inflow.granted[0] - inflow.came[0] + 1)
            inflow.ended = True

    def _pay(self, what: str, now: float) -> None:
        """For what costs its sender nothing, unless it may follow from something that was taken."""
        if self._earned:
            self._earned -= 1
            return
        self._budget = min(float(_BUDGET), self._budget + (now - self._budget_at) * _BUDGET)
        self._budget_at = now
        if self._budget < 1:
            raise _Violation(18, f"a flood of {what}")
        self._budget -= 1

    # Calls of ours.

    def start(
        self,
        path: str,
        body: bytes,
        now: float,
        timeout: Optional[float],
        way: _Way,
        on_done: Optional[Callable[[_Call], None]],
        parent: Optional[_Served],
    ) -> _Call:
        """Begins a call. It ends by ``on_done``, which is among the things to do.

        A parent that came over another link lends its deadline and its end, and is not named on the wire.
        """
        name = _check_path(path)
        if timeout is not None and timeout >= _NO_TIMEOUT:
            timeout = None
        deadline = None if timeout is None else now + max(0.0, timeout)
        if parent is not None and parent.answered:
            # It was made by what the handler has left behind.
            parent = None
        if parent is not None and parent.deadline is not None:
            deadline = parent.deadline if deadline is None else min(deadline, parent.deadline)
        call = _Call(path, now, deadline)
        call.on_done, call.way = on_done, way
        named = parent.id if parent is not None and parent.machine is self else 0
        head = _CALL_HEAD.pack(named, _ALL_ONES, 0) + bytes([len(name)]) + name
        if way is not _Way.NONE:
            takes = way & _Way.TAKES
            items, n_bytes = (self.limits.stream_items, self.limits.stream_bytes) if takes else (0, 0)
            head = _OPEN_HEAD.pack(way, items, n_bytes) + head
        error = self._check_start(path, len(head) + len(body))
        if error is None and deadline is not None and deadline <= now:
            error = TimedOut(path, max(0.0, timeout or 0.0), Executed.NO)
        if error is None and parent is not None and parent.cancelled:
            error = Cancelled()
        call.id = self._next_id()
        self._give_streams(call)
        if error is not None:
            self._complete(call, b"", error)
            return call
        self.pending[call.id] = call
        if parent is not None and parent.machine is self:
            call.parent = parent
            parent.children.add(call)
        if way is not _Way.NONE:
            self._earn(_OF_A_STREAM)
        if deadline is not None:
            if len(self._deadlines) > 64 + 2 * len(self.pending):
                # Those of calls that have ended, which wait behind one that goes on.
                self._deadlines = [entry for entry in self._deadlines if not self._stale(entry)]
                heapq.heapify(self._deadlines)
            heapq.heappush(self._deadlines, (deadline, call.id))
        message = _Message(_Kind.OPEN if way else _Kind.CALL, call.id, bytearray(head) + body)
        message.call, call.message = call, message
        self._push_start(message)
        return call

    def _give_streams(self, call: _Call) -> None:
        if call.way & _Way.TAKES:
            call.inflow = _Inflow(call.id, self.new_signal(), at_caller=True)
            call.inflow.granted = call.inflow.first = (self.limits.stream_items, self.limits.stream_bytes)
        if call.way & _Way.SENDS:
            call.outflow = _Outflow(call.id, self.new_signal(), self.limits, at_caller=True)

    def fire(self, path: str, body: bytes) -> Optional[CallError]:
        """Sends an event. Gives why it cannot."""
        name = _check_path(path)
        data = bytes([len(name)]) + name + body
        error = self._check_start(path, len(data))
        if error is None:
            self._push_start(_Message(_Kind.EVENT, self._next_id(), data))
        return error

    def _check_start(self, path: str, size: int) -> Optional[CallError]:
        if self.reason is not None:
            return Closed(self.reason, Executed.NO)
        if self.peer_going_away or self.going_away:
            return Rejected(Rejection.SHUTTING_DOWN, path)
        if size > self.limits.message_limit:
            return Rejected(Rejection.TOO_LARGE, path, size=size, limit=self.limits.message_limit)
        full = self._waiting_bytes + size > self.limits.send_queue_bytes and self._waiting
        if self._waiting >= self.limits.send_queue or full:
            return Rejected(Rejection.BUSY, path, "too much waits to be sent")
        return None

    def _next_id(self) -> int:
        self._counter += 1
        return self._own_bit | self._counter

    def _push_start(self, message: _Message) -> None:
        is_event = message.kind is _Kind.EVENT
        # Events keep their order: one that could go at once would overtake a large one before it.
        slow = len(message.body) > _BODY_LIMIT or (is_event and self._slow_events > 0)
        (self._slow if slow else self._starts).append(message)
        if is_event and slow:
            self._slow_events += 1
        elif is_event:
            self._quick_events += 1
        self._waiting += 1
        self._waiting_bytes += len(message.body)

    def _has_left(self, message: _Message) -> None:
        self._waiting -= 1
        self._waiting_bytes -= len(message.body)

    def cancel(self, call: _Call, error: CallError) -> None:
        """Gives a call up. It ends with this error, unless it has ended."""
        if not call.is_done:
            self._give_up(call, error)

    def _time_out(self, call: _Call, now: float) -> None:
        executed = Executed.MAYBE if call.left else Executed.NO
        self._give_up(call, TimedOut(call.path, now - call.started, executed))

    def _give_up(self, call: _Call, error: CallError, say: bool = True) -> None:
        message = call.message
        if message is not None and not call.left and not message.dead:
            message.dead = True
            self._has_left(message)
            message.body = b""
            self._n_dead += 1
            # What stands in the middle of a line is skipped when its turn comes, unless there is much of it.
            if self._n_dead > 64 and self._n_dead * 2 > len(self._starts) + len(self._slow):
                self._starts = collections.deque(other for other in self._starts if not other.dead)
                self._slow = collections.deque(other for other in self._slow if not other.dead)
                self._n_dead = 0
        elif message is not None and call.left:
            self._bulk = collections.deque(other for other in self._bulk if other is not message)
            if say:
                self._control.append((_Kind.CANCEL, call.id, b""))
        self._complete(call, b"", error)

    def _complete(self, call: _Call, value: bytes, error: Optional[CallError]) -> None:
        if call.is_done:
            return
        call.value, call.error = value, error
        call.is_done = True
        call.message = None
        for kind in (_Kind.REPLY, _Kind.FAULT, _Kind.ITEMS):
            self._forget(kind, call.id)
        if call.parent is not None:
            call.parent.children.discard(call)
        self._earn_rest(call.inflow)
        self._end_flows(call.inflow, call.outflow, error)
        if call.on_done is not None:
            self._todo.append(functools.partial(call.on_done, call))
        # At last: where this is cut off, the call is still to be found.
        if self.pending.pop(call.id, None) is not None and call.left:
            self._in_flight -= 1

    def _end_flows(
        self, inflow: Optional[_Inflow], outflow: Optional[_Outflow], error: Optional[CallError]
    ) -> None:
        if inflow is not None and not inflow.over:
            inflow.over, inflow.error = True, error
            self._todo.append(inflow.signal.set)
        if outflow is not None:
            outflow.over = outflow.over or error or Cancelled("the other side wants no more items")
            outflow.clear()
            self._todo.append(outflow.signal.set)

    # Streams, at either side.

    def next_item(self, inflow: _Inflow) -> Optional[bytes]:
        """The next item, or ``None`` if none is here."""
        if not inflow.queue:
            return None
        item = inflow.queue.popleft()
        inflow.taken = (inflow.taken[0] + 1, inflow.taken[1] + len(item))
        untold = (inflow.taken[0] - inflow.told[0], inflow.taken[1] - inflow.told[1])
        half = (max(1, inflow.first[0] // 2), max(1, inflow.first[1] // 2))
        if (untold[0] >= half[0] or untold[1] >= half[1]) and not (inflow.over or inflow.ended or self.closed):
            inflow.told = inflow.taken
            self._grant(inflow)
        return item

    def _grant(self, inflow: _Inflow) -> None:
        inflow.granted = (inflow.first[0] + inflow.told[0], inflow.first[1] + inflow.told[1])
        quota = (_Kind.QUOTA, inflow.id, _QUOTA.pack(inflow.granted[0] % _MOD, inflow.granted[1] % _MOD))
        for at, waiting in enumerate(self._control):
            if waiting[:2] == quota[:2]:
                # It is a total, which the later one has in it.
                self._control[at] = quota
                return
        self._control.append(quota)

    def refusal(self, served: _Served, now: float) -> Optional[bytes]:
        """Why a call that has waited for its turn is not handled any more, as a record."""
        if served.is_event:
            return None
        if served.cancelled:
            return _write_record(49)
        if served.deadline is not None and served.deadline <= now:
            return _write_record(7)
        if self._has_unread():
            return _write_record(3, 0, 0, [served.path, "too many bytes of answers wait to be read"])
        return None

    def _has_unread(self) -> bool:
        """Whether more answers wait to leave than there is room for."""
        return self._answer_bytes > self.limits.send_queue_bytes

    def accept(self, served: _Served) -> None:
        """A handler takes the stream on: it has begun."""
        if served.answered or served.cancelled or self.closed or served.way is _Way.NONE:
            return
        if served.inflow is None:
            self._control.append((_Kind.QUOTA, served.id, _QUOTA.pack(0, 0)))
            return
        served.inflow.first = (self.limits.stream_items, self.limits.stream_bytes)
        self._grant(served.inflow)

    def put_item(self, outflow: _Outflow, item: bytes) -> Union[bool, CallError]:
        """Takes an item, if there is room for it. Gives why none goes any more."""
        if outflow.over is not None:
            return outflow.over
        if outflow.ended:
            return Misuse("the end of the items was said already")
        if len(item) + 4 > self.limits.message_limit:
            return Rejected(Rejection.TOO_LARGE, size=len(item) + 4, limit=self.limits.message_limit)
        if not outflow.has_room():
            return False
        outflow.sent = (outflow.sent[0] + 1, outflow.sent[1] + len(item))
        outflow.queue.append(item)
        outflow.n_bytes += len(item)
        self._let_flow(outflow)
        return True

    def end_items(self, outflow: _Outflow) -> None:
        """No more items come from this side."""
        if not outflow.ended and outflow.over is None:
            outflow.ended = True
            if outflow.begun:
                self._let_flow(outflow)

    def stop_items(self, inflow: _Inflow) -> None:
        """No more items are wanted."""
        if inflow.deaf:
            return
        inflow.deaf = True
        inflow.queue.clear()
        # Whoever waits for the next.
        self._todo.append(inflow.signal.set)
        if inflow.begun:
            self._say_stop(inflow)

    def _say_stop(self, inflow: _Inflow) -> None:
        if not (inflow.over or inflow.ended or self.closed):
            self._control.append((_Kind.STOP, inflow.id, b""))

    def _begin(self, call: _Call) -> None:
        """The other side has the stream: now goes what was kept back."""
        call.deadline = None
        if call.inflow is not None and not call.inflow.begun:
            call.inflow.begun = True
            if call.inflow.deaf:
                self._say_stop(call.inflow)
        if call.outflow is not None and not call.outflow.begun:
            call.outflow.begun = True
            if call.outflow.ended:
                self._let_flow(call.outflow)

    def _let_flow(self, outflow: _Outflow) -> None:
        if not outflow.waits:
            outflow.waits = True
            self._flowing.append(outflow)

    # Calls of the other side.

    def answer(self, served: _Served, kind: _Kind, body: bytes) -> None:
        """The one answer to a call; it goes behind its items."""
        if served.answered:
            return
        served.answered = True
        self._served_bytes -= served.n_bytes
        self._earn_rest(served.inflow)
        if served.inflow is not None:
            served.inflow.over = True
            self._todo.append(served.inflow.signal.set)
        for call in list(served.children):
            call.parent = None
        served.children.clear()
        if served.is_event or served.cancelled or self.closed:
            return self._free(served)
        if kind is _Kind.REPLY and len(body) > self.limits.message_limit:
            text = f"the result of {served.path} has {len(body)} bytes, over the limit of {self.limits.message_limit}"
            kind, body = _Kind.FAULT, _write_record(32, 0, 0, [text])
        elif len(body) > max(self.limits.message_limit, 128 << 10):
            kind, body = _Kind.FAULT, _write_record(32, 0, 0, ["the error is too large to be sent"])
        message = _Message(kind, served.id, body)
        message.served = served
        self._answer_bytes += len(body)
        outflow = served.outflow
        if outflow is not None and outflow.queue or self._items is not None and self._items[0] is outflow:
            assert outflow is not None
            outflow.answer = message
            self._let_flow(outflow)
        else:
            self._push_answer(message)

    def _free(self, served: _Served) -> None:
        """Gives up its place. What was refused had none, and another call may be served by now that has its id."""
        if self.served.get(served.id) is served:
            del self.served[served.id]

    def _push_answer(self, message: _Message) -> None:
        (self._slow if len(message.body) > _BODY_LIMIT else self._answers).append(message)

    def _check_unread(self) -> None:
        # The other side does not know how many are served: it may have as many under way as is usual.
        if len(self._answers) > max(10 * self.limits.served_calls, _LEAST_UNREAD):
            raise _Violation(18, "calls whose answers are not read")

    def _refuse(self, served: _Served, record: bytes) -> None:
        self._check_unread()
        self.answer(served, _Kind.FAULT, record)

    def _cancel_calls_served(self) -> None:
        # Events are handled that came before the end: nobody could tell else what was lost.
        for served in [served for served in self.served.values() if not served.is_event]:
            self._cancel_served(served)

    def _cancel_served(self, served: _Served) -> None:
        if served.cancelled:
            return
        served.cancelled = True
        for call in list(served.children):
            self.cancel(call, Cancelled())
        outflow = served.outflow
        if outflow is not None:
            if outflow.answer is not None:
                self._has_answered(outflow.answer)
                outflow.answer = None
            if outflow.waits and not (self._items is not None and self._items[0] is outflow):
                self._flowing = collections.deque(other for other in self._flowing if other is not outflow)
                outflow.waits = False
        self._earn_rest(served.inflow)
        self._end_flows(served.inflow, outflow, Cancelled())
        for kind in (_Kind.CALL, _Kind.OPEN, _Kind.ITEMS):
            self._forget(kind, served.id)
        if served.way is not _Way.NONE:
            # What was to be said of its items is not: who acknowledges nothing would have it grow for ever.
            flow = [(_Kind.QUOTA, served.id), (_Kind.STOP, served.id)]
            self._control = collections.deque(waiting for waiting in self._control if waiting[:2] not in flow)
        if served.answered:
            for message in [m for m in (*self._answers, *self._slow) if m.served is served]:
                self._has_answered(message)
            self._answers = collections.deque(m for m in self._answers if m.served is not served)
            self._slow = collections.deque(m for m in self._slow if m.served is not served)
            self._free(served)
        if served.on_cancel is not None:
            self._todo.append(served.on_cancel)

    # In.

    def _take_frame(
        self, header: Tuple[int, int, int, int, int, int, int], body: bytes, length: int, now: float
    ) -> None:
        _, number, flags, zero, id, ack_frames, ack_bytes = header
        if zero or flags & ~7:
            raise _Violation(10, "reserved bits are set")
        if not 1 <= number <= 17:
            if flags & _OPTIONAL:
                return self._pay("frames that are skipped", now)
            raise _Violation(7, f"the kind {number} is unknown")
        kind = _Kind(number)
        if not self.greeted and kind is not _Kind.HELLO and not (kind is _Kind.BYE and any(body[:2])):
            raise _Violation(3, "something came before a hello")
        news = self._acknowledge(ack_frames, ack_bytes)
        if kind not in _FREE:
            untold = (self._read[0] - self._told[0], self._read[1] - self._told[1])
            if not _has_room(*untold):
                raise _Violation(17, "the window was ignored")
            self._read = (self._read[0] + 1, self._read[1] + length)
        if flags & (_MORE | _CONTINUES) and kind not in _CUT:
            raise _Violation(16, "a part of what is never cut")
        if kind is _Kind.CREDIT and not news:
            self._pay("credits", now)
        _TAKERS[kind](self, kind, flags, id, body, now)

    def _acknowledge(self, frames: int, n_bytes: int) -> bool:
        more = ((frames - self._acknowledged[0]) % _MOD, (n_bytes - self._acknowledged[1]) % _MOD)
        under_way = self._under_way()
        if more[0] > under_way[0] or more[1] > under_way[1]:
            raise _Violation(17, "more is acknowledged than was sent")
        self._acknowledged = (self._acknowledged[0] + more[0], self._acknowledged[1] + more[1])
        return more[0] > 0

    def _under_way(self) -> Tuple[int, int]:
        return (self._sent[0] - self._acknowledged[0], self._sent[1] - self._acknowledged[1])

    def _take_hello(self, kind: _Kind, flags: int, id: int, body: bytes, now: float) -> None:
        if self.greeted:
            raise _Violation(4, "a second hello")
        _check_hello(body, self.side, self._theirs)
        self.greeted, self._greet_by = True, None

    def _take_ready(self, kind: _Kind, flags: int, id: int, body: bytes, now: float) -> None:
        if self.peer_ready:
            raise _Violation(19, "a second ready")
        self.peer_ready = True

    def _take_nothing(self, kind: _Kind, flags: int, id: int, body: bytes, now: float) -> None:
        """A credit or a pong: what it says stands in its header."""

    def _take_ping(self, kind: _Kind, flags: int, id: int, body: bytes, now: float) -> None:
        self._pay("pings", now)
        if sum(waiting[0] is _Kind.PONG for waiting in self._control) >= _MOST_PONGS:
            raise _Violation(18, "pings while pongs wait")
        self._control.append((_Kind.PONG, id, b""))

    def _take_pong(self, kind: _Kind, flags: int, id: int, body: bytes, now: float) -> None:
        self._pay("pongs", now)

    def _take_go_away(self, kind: _Kind, flags: int, id: int, body: bytes, now: float) -> None:
        if self.peer_going_away:
            self._pay("go-aways", now)
        self.peer_going_away = True

    def _take_bye(self, kind: _Kind, flags: int, id: int, body: bytes, now: float) -> None:
        if len(body) < 2:
            raise _Violation(11, "a bye is cut off")
        code = int.from_bytes(body[:2], "little")
        if code in _TURNED_AWAY:
            return self.lose(CloseReason(CloseKind.TURNED_AWAY, _TURNED_AWAY[code], code))
        if code:
            text = f"the other side says: {_RULES.get(code, 'an unknown rule was broken')} (rule {code})"
            return self.lose(CloseReason(CloseKind.PROTOCOL, text, code))
        self.lose(CloseReason(CloseKind.PEER))

    def _join(self, kind: _Kind, flags: int, id: int, body: bytes, now: float) -> Optional[bytes]:
        """The whole message, if this was the last of it."""
        key, more, continues = (int(kind), id), flags & _MORE, flags & _CONTINUES
        part, known = self._inbox.get(key), key in self._inbox
        if continues and not known:
            raise _Violation(16, "a part without a beginning")
        if not continues and known:
            raise _Violation(14 if kind in _STARTS else 16, "a beginning in the place of a part")
        if (more or continues) and not body:
            raise _Violation(18, "a part without a body")
        limit = self.limits.message_limit
        if len(body) + len(part or b"") > (max(limit, 128 << 10) if kind is _Kind.FAULT else limit):
            raise _Violation(8, "a message is over its limit")
        if not known and not more:
            return body
        if known and part is None:
            # There was no room for it.
            if not more:
                del self._inbox[key]
            return None
        if part is None:
            part = self._inbox[key] = bytearray()
            if len(self._inbox) > 64:
                raise _Violation(18, "too many unfinished messages")
        part += body
        self._inbox_bytes += len(body)
        if self._inbox_bytes > 4 * limit:
            self._turn_down(kind, id, more, now)
            return None
        if more:
            return None
        self._forget(kind, id)
        return bytes(part)

    def _turn_down(self, kind: _Kind, id: int, more: int, now: float) -> None:
        """There is no room for a message: what still comes of it is skipped."""
        self._forget(kind, id)
        if more:
            self._inbox[int(kind), id] = None
        if kind in _STARTS:
            self._pay("messages beyond the room for them", now)
        if kind in (_Kind.CALL, _Kind.OPEN):
            self._check_unread()
            record = _write_record(3, 0, 0, ["", "too much is in unfinished messages"])
            return self._push_answer(_Message(_Kind.FAULT, id, record))
        if kind is _Kind.EVENT:
            self.n_unhandled += 1
            self._note(logging.WARNING, "an event is dropped, because too much is in unfinished messages")
            return
        error = Decode("there was no room for what came: too much is in unfinished messages")
        call, served = self.pending.get(id), self.served.get(id)
        if call is not None:
            self._give_up(call, error, say=kind is _Kind.ITEMS)
        elif served is not None and served.inflow is not None:
            self.stop_items(served.inflow)
            self._end_flows(served.inflow, None, error)

    def _forget(self, kind: _Kind, id: int) -> None:
        part = self._inbox.pop((int(kind), id), None)
        if part is not None:
            self._inbox_bytes -= len(part)

    def _is_own(self, id: int) -> bool:
        return id & _NECK_BIT == self._own_bit

    def _take_start(self, kind: _Kind, flags: int, id: int, body: bytes, now: float) -> None:
        if not flags & _CONTINUES:
            if id & ~_NECK_BIT == 0 or self._is_own(id):
                raise _Violation(13, "an id is 0, or of the wrong side")
            unfinished = any((int(start), id) in self._inbox for start in _STARTS)
            if id in self.served or unfinished:
                raise _Violation(14, "an id is in use")
            self._last_seen = max(self._last_seen, id & ~_NECK_BIT)
        whole = self._join(kind, flags, id, body, now)
        if whole is None:
            return
        served = _Served(self, id, "", kind is _Kind.EVENT)
        arguments = self._read_head(served, kind, whole, now)
        self._route(served, arguments, now)

    def _read_head(self, served: _Served, kind: _Kind, body: bytes, now: float) -> bytes:
        at = 0
        try:
            if kind is _Kind.OPEN:
                way, items, n_bytes = _OPEN_HEAD.unpack_from(body)
                at = _OPEN_HEAD.size
                self._open_streams(served, way, items, n_bytes)
            if kind is not _Kind.EVENT:
                parent, micros, served.attempt = _CALL_HEAD.unpack_from(body, at)
                at += _CALL_HEAD.size
                if parent and parent & ~_NECK_BIT == 0:
                    raise _Violation(13, "a parent is 0")
                served.descends = parent in self.pending
                served.deadline = None if micros == _ALL_ONES else now + micros / 1e6
            if body[at] == 0:
                struct.unpack_from("<Q", body, at + 1)
                at += 9
            end = at + 1 + body[at]
        except (struct.error, IndexError):
            raise _Violation(11, "the head of a message is cut off") from None
        if body[at] and end > len(body):
            raise _Violation(11, "the head of a message is cut off")
        try:
            served.path = body[at + 1 : end].decode()
        except UnicodeDecodeError:
            raise _Violation(12, "a path is no UTF-8") from None
        if not _is_path(served.path):
            raise _Violation(12, "a bad path")
        return body[end:]

    def _open_streams(self, served: _Served, way: int, items: int, n_bytes: int) -> None:
        if way not in (1, 2, 3) or way & _Way.TAKES and max(items, n_bytes) > _MOST_QUOTA:
            raise _Violation(11, "a stream is opened in a way that there is not")
        served.way = _Way(way)
        if way & _Way.SENDS:
            served.inflow = _Inflow(served.id, self.new_signal(), at_caller=False)
        if way & _Way.TAKES:
            served.outflow = _Outflow(served.id, self.new_signal(), self.limits, at_caller=False)
            served.outflow.quota = (items, n_bytes)

    def _route(self, served: _Served, arguments: bytes, now: float) -> None:
        handler = self.handlers.get(served.path)
        if served.is_event:
            if self.going_away or handler is None or handler.way is not _Way.NONE:
                self.n_unhandled += 1
                self._note(logging.DEBUG, "nothing handles the event %s", served.path)
            elif self._is_full(arguments):
                self._pay("events", now)
                self.n_unhandled += 1
                self._note(logging.WARNING, "an event is dropped, because too many are served: %s", served.path)
            else:
                self._hand_over(served, handler, arguments)
            return
        path = served.path
        refusal = None
        if self.going_away or self._closing_by is not None:
            refusal = _write_record(5)
        elif served.deadline is not None and served.deadline <= now:
            refusal = _write_record(7)
        elif self._is_full(arguments) or self._has_unread():
            self._pay("calls beyond what is served", now)
            return self._refuse(served, _write_record(3, 0, 0, [path, "too many calls are served"]))
        self._earn(_OF_A_CALL if served.way is _Way.NONE else _OF_A_STREAM)
        if refusal is not None:
            return self._refuse(served, refusal)
        if handler is None:
            return self._refuse(served, _write_record(1, 0, 0, [path]))
        if handler.way is not served.way:
            texts = [path, _WAY_TEXTS[handler.way], f"what came is {_WAY_TEXTS[served.way]}"]
            return self._refuse(served, _write_record(2, 0, 0, texts))
        self._hand_over(served, handler, arguments)

    def _is_full(self, arguments: bytes) -> bool:
        """Whether there is no room for what a call or an event brings."""
        n_bytes = self._served_bytes
        too_much = n_bytes > 0 and n_bytes + len(arguments) > self.limits.received_bytes
        return too_much or len(self.served) >= self.limits.served_calls

    def _hand_over(self, served: _Served, handler: _Handler, arguments: bytes) -> None:
        served.n_bytes = len(arguments)
        self._served_bytes += served.n_bytes
        self.served[served.id] = served
        self._todo.append(lambda: self.dispatch(served, handler, arguments))

    def _check_answer_id(self, id: int) -> Optional[_Call]:
        call = self.pending.get(id)
        if call is not None and call.left:
            return call
        if call is not None or not self._is_own(id) or not 0 < id & ~_NECK_BIT <= self._counter:
            raise _Violation(15, "an answer to a call that was never made")
        return None

    def _take_answer(self, kind: _Kind, flags: int, id: int, body: bytes, now: float) -> None:
        call = self._check_answer_id(id)
        if call is None:
            self.n_late_replies += not flags & _MORE
            return
        whole = self._join(kind, flags, id, body, now)
        if whole is None:
            return
        message = call.message
        if message is not None and message in self._bulk:
            # It is answered before all of it was sent.
            self._bulk.remove(message)
            self._control.append((_Kind.CANCEL, id, b""))
        error = _error_of(_read_record(whole)) if kind is _Kind.FAULT else None
        due = call.deadline
        if isinstance(error, Rejected) and error.kind is Rejection.EXPIRED and due is not None and due <= now:
            # It is over time, whichever side finds out first.
            error = TimedOut(call.path, now - call.started, Executed.NO)
        self._complete(call, whole, error)

    def _take_cancel(self, kind: _Kind, flags: int, id: int, body: bytes, now: float) -> None:
        self._pay("cancels", now)
        for start in (_Kind.CALL, _Kind.OPEN, _Kind.ITEMS):
            if not self._is_own(id):
                self._forget(start, id)
        served = self.served.get(id)
        if served is not None and not served.is_event:
            self._cancel_served(served)

    def _flows(self, id: int) -> Optional[Tuple[Optional[_Inflow], Optional[_Outflow], bool]]:
        """The ends of a stream that is under way, and whether its call is ours."""
        if id & ~_NECK_BIT == 0:
            raise _Violation(13, "an id is 0")
        if self._is_own(id):
            call = self._check_answer_id(id)
            if call is None:
                return None
            if call.way is _Way.NONE:
                raise _Violation(19, "items for a call that is no stream")
            # It says that the stream has begun.
            self._begin(call)
            return call.inflow, call.outflow, True
        if id & ~_NECK_BIT > self._last_seen:
            raise _Violation(15, "items for a call that was never made")
        served = self.served.get(id)
        if served is None:
            return None
        if served.way is _Way.NONE:
            raise _Violation(19, "items for a call that is no stream")
        return None if served.answered or served.cancelled else (served.inflow, served.outflow, False)

    def _take_items(self, kind: _Kind, flags: int, id: int, body: bytes, now: float) -> None:
        flows = self._flows(id)
        if flows is None:
            self._forget(_Kind.ITEMS, id)
            self.n_late_items += 1
            return self._pay("items that nobody waits for", now)
        inflow = flows[0]
        if inflow is None or inflow.ended:
            raise _Violation(19, "items in a direction that has none")
        whole = self._join(kind, flags, id, body, now)
        if whole is None:
            return
        if not whole:
            raise _Violation(11, "no item")
        at = 0
        while at < len(whole):
            end = at + 4 + int.from_bytes(whole[at : at + 4], "little")
            if at + 4 > len(whole) or end > len(whole):
                raise _Violation(11, "an item is cut off")
            if inflow.came[0] >= inflow.granted[0] or inflow.came[1] >= inflow.granted[1]:
                raise _Violation(17, "items that were not granted")
            inflow.came = (inflow.came[0] + 1, inflow.came[1] + end - at - 4)
            if not inflow.deaf:
                inflow.queue.append(whole[at + 4 : end])
            at = end
        self._todo.append(inflow.signal.set)

    def _take_end(self, kind: _Kind, flags: int, id: int, body: bytes, now: float) -> None:
        flows = self._flows(id)
        if flows is None:
            return self._pay("ends that nobody waits for", now)
        inflow, _, is_ours = flows
        if inflow is None or inflow.ended:
            raise _Violation(19, "an end in a direction that has none")
        inflow.ended = True
        # At the caller the answer says how it ended.
        inflow.over = inflow.over or not is_ours
        self._todo.append(inflow.signal.set)

    def _take_quota(self, kind: _Kind, flags: int, id: int, body: bytes, now: float) -> None:
        if len(body) < _QUOTA.size:
            raise _Violation(11, "a quota is cut off")
        flows = self._flows(id)
        if flows is None:
            return self._pay("quotas that nobody waits for", now)
        outflow = flows[1]
        if outflow is None:
            return self._pay("quotas that grant nothing", now)
        items, n_bytes = _QUOTA.unpack_from(body)
        more = ((items - outflow.quota[0]) % _MOD, (n_bytes - outflow.quota[1]) % _MOD)
        if max(more) > _MOST_QUOTA:
            raise _Violation(17, "a quota below the one before")
        if more == (0, 0):
            self._pay("quotas that grant nothing", now)
        outflow.quota = (outflow.quota[0] + more[0], outflow.quota[1] + more[1])
        self._todo.append(outflow.signal.set)

    def _take_stop(self, kind: _Kind, flags: int, id: int, body: bytes, now: float) -> None:
        self._pay("stops", now)
        flows = self._flows(id)
        if flows is None:
            return
        outflow = flows[1]
        if outflow is None:
            raise _Violation(19, "a stop of what sends nothing")
        outflow.over = outflow.over or Cancelled("the other side wants no more items")
        outflow.clear()
        self._todo.append(outflow.signal.set)

    # Out.

    def take_output(self, now: float) -> bytes:
        """What is to be sent next; nothing if nothing may go now."""
        out = bytearray()
        if not self.closed:
            while len(out) < _FRAME_LIMIT and self._next_frame(out, now):
                pass
            untold = (self._read[0] - self._told[0], self._read[1] - self._told[1])
            if not out and _owes_credit(*untold):
                self._emit(out, _Kind.CREDIT, 0, 0, b"")
            if not out and self._closing_by is not None and self._is_drained():
                self._say_bye(0, CloseReason(CloseKind.LOCAL))
        if self.closed and self._last_words:
            out += self._last_words
            self._last_words = b""
        return bytes(out)

    def _is_drained(self) -> bool:
        lanes = (self._control, self._answers, self._starts, self._slow, self._bulk)
        return not (any(lanes) or self._flowing or self._items)

    def _emit(self, out: bytearray, kind: _Kind, flags: int, id: int, body: _Body) -> None:
        self._told = self._read
        out += _frame(kind, flags, id, self._read, body)
        if kind not in _FREE:
            self._sent = (self._sent[0] + 1, self._sent[1] + _HEADER.size + len(body))

    def _next_frame(self, out: bytearray, now: float) -> bool:
        room = _has_room(*self._under_way())
        for at, (kind, id, body) in enumerate(self._control):
            if room or kind in _FREE:
                del self._control[at]
                self._emit(out, kind, 0, id, body)
                return True
        if not room:
            return False
        self._turn += 1
        lanes = (self._quick_lane, self._slow_lane, self._item_lane)
        return any(lanes[(self._turn + i) % 3](out, now) for i in range(3))

    def _quick_lane(self, out: bytearray, now: float) -> bool:
        if self._answers:
            message = self._answers.popleft()
            self._emit(out, message.kind, 0, message.id, message.body)
            self._has_answered(message)
            return True
        while self._starts and self._may_leave(self._starts[0]):
            message = self._starts.popleft()
            if message.kind is _Kind.EVENT:
                self._quick_events -= 1
            if self._leave(message, now):
                self._emit(out, message.kind, 0, message.id, message.body)
                return True
        return False

    def _may_leave(self, message: _Message) -> bool:
        if message.dead:
            return True
        return self.peer_ready and (message.call is None or self._in_flight < self.limits.in_flight)

    def _leave(self, message: _Message, now: float) -> bool:
        """A call or an event begins to leave. ``False`` if it does not, because it has ended meanwhile."""
        call = message.call
        if message.dead:
            self._n_dead = max(0, self._n_dead - 1)
            return False
        if call is None:
            self._has_left(message)
            return True
        if call.deadline is not None:
            left = call.deadline - now
            if left <= 0:
                self._time_out(call, now)
                return False
            micros = min(_ALL_ONES - 1, -int(-left * 1e6 // 1))
            at = 8 + (_OPEN_HEAD.size if message.kind is _Kind.OPEN else 0)
            assert isinstance(message.body, bytearray)
            struct.pack_into("<Q", message.body, at, micros)
        self._has_left(message)
        call.left = True
        self._in_flight += 1
        return True

    def _slow_lane(self, out: bytearray, now: float) -> bool:
        if len(self._bulk) < _UNFINISHED:
            message = self._next_slow(now)
            if message is not None:
                self._bulk.append(message)
        if not self._bulk:
            return False
        message = self._bulk.popleft()
        self._emit_part(out, message)
        if message.at < len(message.body):
            self._bulk.append(message)
        elif message.kind is _Kind.EVENT:
            self._slow_events -= 1
        elif message.served is not None:
            self._has_answered(message)
        return True

    def _has_answered(self, message: _Message) -> None:
        """An answer has left, or never does."""
        if message.served is not None:
            self._answer_bytes -= len(message.body)
            self._free(message.served)

    def _next_slow(self, now: float) -> Optional[_Message]:
        """The next message that is to be cut, if one may begin."""
        for message in list(self._slow):
            if message.served is None:
                if not self._may_leave(message):
                    continue
                if message.kind is _Kind.EVENT:
                    cut = any(other.kind is _Kind.EVENT for other in self._bulk)
                    if cut or self._quick_events:
                        continue
            self._slow.remove(message)
            if message.served is not None or self._leave(message, now):
                return message
        return None

    def _emit_part(self, out: bytearray, message: _Message) -> None:
        end = min(len(message.body), message.at + _BODY_LIMIT)
        flags = (_MORE if end < len(message.body) else 0) | (_CONTINUES if message.at else 0)
        self._emit(out, message.kind, flags, message.id, memoryview(message.body)[message.at : end])
        message.at = end

    def _item_lane(self, out: bytearray, now: float) -> bool:
        if self._items is not None:
            outflow, message = self._items
            self._emit_part(out, message)
            if message.at == len(message.body):
                self._items = None
                self._flow_on(outflow)
            return True
        while self._flowing:
            outflow = self._flowing.popleft()
            outflow.waits = False
            if not outflow.queue:
                self._flow_on(outflow)
                if self._control or self._answers:
                    # The end of the items, or the answer behind them.
                    return self._next_frame(out, now)
                continue
            body = bytearray()
            while outflow.queue and (not body or len(body) + 4 + len(outflow.queue[0]) <= _BODY_LIMIT):
                item = outflow.take()
                body += struct.pack("<I", len(item)) + item
            if outflow.held:
                self._todo.append(outflow.signal.set)
            message = _Message(_Kind.ITEMS, outflow.id, body)
            self._emit_part(out, message)
            if message.at < len(body):
                self._items = (outflow, message)
            else:
                self._flow_on(outflow)
            return True
        return False

    def _flow_on(self, outflow: _Outflow) -> None:
        """What comes behind the items that have gone."""
        if outflow.queue:
            return self._let_flow(outflow)
        if outflow.answer is not None:
            self._push_answer(outflow.answer)
            outflow.answer = None
        elif outflow.ended and outflow.at_caller and outflow.over is None:
            outflow.over = Misuse("the end of the items was said already")
            self._control.append((_Kind.END, outflow.id, b""))


_TURNED_AWAY = {
    64: "too many peers are there",
    65: "this side is not allowed there",
    66: "the listener is about to end",
}

_RULES = {
    1: "the first bytes are not those of a peer, or of the wrong side",
    2: "no version is spoken by both",
    3: "the hello is malformed or late, or something came before it",
    4: "a second hello",
    5: "the wrong token",
    6: "closed before hello",
    7: "an unknown kind that must not be skipped",
    8: "a frame or a message over its limit",
    9: "a frame that is shorter than its header, or cut off",
    10: "reserved bits are set",
    11: "the fixed part of a message does not parse",
    12: "a bad path",
    13: "an id that is 0, or of the wrong side",
    14: "an id that is in use",
    15: "an answer to a call that was never made",
    16: "a part of a message out of place",
    17: "the window was ignored",
    18: "a flood of what costs the sender nothing",
    19: "a frame that the state of the link does not allow",
    20: "a message of several frames that was begun and did not go on",
    21: "one side asks for a codec that the other does not take",
    22: "the filters of the two sides differ",
    23: "the proof of a hello is wrong: another key, or a hello that was changed",
    24: "a record that does not open: changed, repeated, left out, or from elsewhere",
    25: "a record that no filter makes, or a frame that is none",
}

_TAKERS: Dict[_Kind, Callable[[_Machine, _Kind, int, int, bytes, float], None]] = {
    _Kind.HELLO: _Machine._take_hello,
    _Kind.READY: _Machine._take_ready,
    _Kind.CALL: _Machine._take_start,
    _Kind.EVENT: _Machine._take_start,
    _Kind.OPEN: _Machine._take_start,
    _Kind.REPLY: _Machine._take_answer,
    _Kind.FAULT: _Machine._take_answer,
    _Kind.CANCEL: _Machine._take_cancel,
    _Kind.CREDIT: _Machine._take_nothing,
    _Kind.ITEMS: _Machine._take_items,
    _Kind.END: _Machine._take_end,
    _Kind.PING: _Machine._take_ping,
    _Kind.PONG: _Machine._take_pong,
    _Kind.GO_AWAY: _Machine._take_go_away,
    _Kind.BYE: _Machine._take_bye,
    _Kind.QUOTA: _Machine._take_quota,
    _Kind.STOP: _Machine._take_stop,
}


# Where to connect.


class Token:
    """What both sides must know over TCP: 64 hexadecimal digits, as the listener has written them into a file."""

    def __init__(self, text: str) -> None:
        if not re.fullmatch("[0-9a-fA-F]{64}", text):
            raise ValueError("a token has 64 hexadecimal digits, and nothing else")
        self._secret = bytes.fromhex(text)

    @classmethod
    def read(cls, path: Union[str, os.PathLike[str]]) -> Token:
        """Reads it from a file that only its owner may read; any other is refused with ``PermissionError``."""
        with open(path, encoding="ascii", errors="replace") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise PermissionError(f"{path} has the mode {mode:03o}, so that others may use it: 600 is right")
            return cls(file.read(100).rstrip())

    def __repr__(self) -> str:
        return "Token(..)"


Allow = Callable[[int, int, int], bool]
"""Says whether a process, by its number, user and group, may be at the other end of a Unix socket."""

_NO_TOKENS = (bytes(16), bytes(16))
_ASK_AGAIN = 0.01
_LONGEST_CONNECT = 1e6
"""A socket knows no timeout that is much longer."""


def _tokens(token: Optional[Token]) -> Tuple[bytes, bytes]:
    """What whoever connects shows, and what it wants to see."""
    return _NO_TOKENS if token is None else (token._secret[:16], token._secret[16:])


def _own_user(pid: int, uid: int, gid: int) -> bool:
    return uid == os.geteuid()


@contextlib.contextmanager
def _starts(what: str) -> Iterator[None]:
    """Where the system has no descriptor or no thread more, there is no link."""
    try:
        yield
    except OSError as error:
        raise StartError(f"{what}: {error.strerror or error}") from error
    except RuntimeError as error:
        raise StartError(f"{what}: {error}") from error


def _dial(address: str, token: Optional[Token], limit: float, allow: Optional[Allow]) -> socket.socket:
    kind, _, place = address.partition(":")
    if kind == "unix" and place.startswith("/") and "\0" not in place:
        if len(os.fsencode(place)) > 107:
            raise StartError(f"{address}: the path is longer than 107 bytes")
        family, target = socket.AF_UNIX, place  # type: Tuple[int, Any]
    elif kind == "tcp":
        if token is None:
            raise StartError(f"{address}: over TCP the token of the one who listens is needed")
        family, target = _tcp_target(address, place)
    else:
        raise StartError(f"{address!r} is no address: unix:/path, tcp:127.0.0.1:port and tcp:[::1]:port are")
    with _starts(f"cannot connect to {address}"):
        opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.settimeout(min(max(0.0, limit), _LONGEST_CONNECT))
        _line_up(opened, target, time.monotonic() + limit)
        if family == socket.AF_UNIX:
            _check_peer(address, opened, allow or _own_user)
        else:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        opened.close()
        raise StartError(f"cannot connect to {address}: {error.strerror or error}") from error
    except BaseException:
        opened.close()
        raise
    return opened


def _line_up(opened: socket.socket, target: Any, end: float) -> None:
    """Connects. At a Unix socket whose line is full nobody may wait for a place in it, as with TCP: one asks again."""
    while True:
        try:
            return opened.connect(target)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
            time.sleep(_ASK_AGAIN)


def _tcp_target(address: str, place: str) -> Tuple[int, Any]:
    host, _, port = place.rpartition(":")
    try:
        ip = ipaddress.ip_address(host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host)
        number = int(port) if port.isascii() and port.isdigit() else -1
    except ValueError:
        ip, number = None, -1
    if ip is None or not 0 < number < 65536 or (ip.version == 6) != (host[:1] == "["):
        raise StartError(f"{address!r} is no address: unix:/path, tcp:127.0.0.1:port and tcp:[::1]:port are")
    if not ip.is_loopback:
        raise StartError(f"{address}: other machines are not served, only the loopback")
    return (socket.AF_INET6 if ip.version == 6 else socket.AF_INET), (str(ip), number)


def _check_peer(address: str, opened: socket.socket, allow: Allow) -> None:
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return
    pid, uid, gid = struct.unpack("3i", opened.getsockopt(socket.SOL_SOCKET, option, 12))
    if not allow(pid, uid, gid):
        raise StartError(f"{address}: user {uid} listens there, whom this side does not allow")


def _inherited() -> Tuple[socket.socket, bytes, int]:
    """The end of the wire that a Head has given this process, the token, and the lifeline."""
    text = os.environ.pop("NAPE_NECK", None)
    if text is None:
        raise StartError("no Head started this process, or this was asked before")
    words = text.split(" ", 5)
    if len(words) != 6 or words[0] != "1":
        raise StartError("the Head that started this process is of another version")
    _, wire, token, lifeline, _, end = words
    if wire != "pipe":
        raise StartError(f"the Head talks over {wire}: it has to start this program with Wire::Pipe")
    try:
        return socket.socket(fileno=_handed(end)), bytes.fromhex(token), _handed(lifeline)
    except (OSError, ValueError) as error:
        raise StartError(f"what NAPE_NECK names was not inherited: {error}") from error


def _handed(text: str) -> int:
    number, device, inode = map(int, text.split(":"))
    found = os.fstat(number)
    if (found.st_dev, found.st_ino) != (device, inode):
        raise ValueError(f"the descriptor {number} is another one")
    os.set_inheritable(number, False)
    return number


def _follow(lifeline: int) -> None:
    """Ends this process half a second after its Head, should it still be there."""

    def watch() -> None:
        while os.read(lifeline, 1):
            pass
        time.sleep(0.5)
        # Nothing is logged before: whatever handles the record may block.
        os._exit(1)

    with _starts("the Head cannot be watched"):
        threading.Thread(target=watch, name="nape-lifeline", daemon=True).start()


# What both kinds of link have.


class _Unset(enum.Enum):
    UNSET = 0


_UNSET = _Unset.UNSET
_Timeout = Union[float, None, _Unset]


def _limit(timeout: _Timeout, limits: Limits) -> Optional[float]:
    """That of a call. What is no number is found out here: amid an action it would end the link."""
    if isinstance(timeout, _Unset):
        return limits.timeout
    if timeout is not None:
        _check_number("timeout", timeout)
    return timeout


def _collect(into: Mapping[str, _Handler], apis: Iterable[Api]) -> Dict[str, _Handler]:
    handlers = dict(into)
    for api in apis:
        for path, handler in api._handlers.items():
            if path in handlers:
                raise ValueError(f"{path} is served already")
            handlers[path] = handler
    return handlers


def _arguments(value: Any) -> bytes:
    try:
        return _encode(value)
    except ValueError as error:
        raise Misuse(f"the arguments do not encode: {error}") from error


def _raised(outcome: Union[bool, CallError, None]) -> bool:
    """What an action gave, unless that is an error."""
    if isinstance(outcome, CallError):
        raise outcome
    return bool(outcome)


def _outcome(call: _Call, raw: bool) -> Any:
    if call.error is not None:
        raise call.error
    return _result(call.value, raw)


def _result(body: bytes, raw: bool = False) -> Any:
    if raw:
        return body
    try:
        return _decode(body)
    except ValueError as error:
        raise Decode(str(error)) from error


def _parse(handler: _Handler, body: bytes) -> Any:
    if handler.raw:
        return body
    try:
        return _decode(body)
    except ValueError as error:
        raise BadArguments(str(error), "JSON") from error


def _reply(value: Any) -> Tuple[_Kind, bytes]:
    try:
        return _Kind.REPLY, _encode(value)
    except ValueError as error:
        return _Kind.FAULT, _write_record(32, 0, 0, [f"the result does not encode: {error}"])


def _failure(served: _Served, error: BaseException) -> Tuple[_Kind, bytes]:
    if served.is_event:
        _log.warning("the handler of the event %s failed: %s", served.path, error, exc_info=error)
    try:
        return _Kind.FAULT, _record_of_failure(error, served.path)
    except Exception:
        # It is answered all the same.
        return _Kind.FAULT, _write_record(32, 0, 0, [f"a {type(error).__name__}, of which nothing can be told"])


class _Owned:
    """Belongs to the process that made it. One that was forked from that has the socket, and no thread that reads."""

    def __init__(self) -> None:
        self._owner = os.getpid()

    def _is_forked(self) -> bool:
        return os.getpid() != self._owner

    def _check_owner(self) -> None:
        if self._is_forked():
            raise Misuse(_MISUSES[6])


def _do_all(todo: List[Callable[[], None]], aside: Callable[[Callable[[], None]], None]) -> None:
    """Does each, whatever another raises: somebody may wait for it."""
    interrupt: Optional[BaseException] = None
    for job in todo:
        try:
            job()
        except Exception as error:
            with contextlib.suppress(Exception):
                aside(functools.partial(_log.error, "internal failure: %r", error, exc_info=error))
        except BaseException as error:
            # Ctrl-C comes anywhere. What it has cut off is done again.
            interrupt = error
            with contextlib.suppress(Exception):
                job()
    if interrupt is not None:
        raise interrupt


# A link with threads.


class _ThreadSignal(_Signal):
    """As :class:`threading.Event`, without a lock that code in Python holds: a signal handler and the collector, which
    run in the middle of anything, may set it and wait for it."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: List[threading.Lock] = []

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        for waiter in self._waiters[:]:
            # Two that set it at a time wake one waiter twice.
            with contextlib.suppress(RuntimeError):
                waiter.release()

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: Optional[float] = None) -> bool:
        if self._is_set:
            return True
        waiter = threading.Lock()
        waiter.acquire()
        self._waiters.append(waiter)
        try:
            # It may have been set before the waiter was there to be woken.
            return self._is_set or waiter.acquire(True, _wait_time(timeout)) or self._is_set
        finally:
            self._waiters.remove(waiter)


def _wait_time(timeout: Optional[float]) -> float:
    """As locks take it: they know no wait without end but -1, and none that is longer than they can count."""
    return -1.0 if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)


_ACTION_DEPTH = 60
"""More calls within calls than an action takes, and what is to be done behind it."""


def _check_stack() -> None:
    """Raises ``RecursionError`` where there is no room for an action, which would be cut off half way."""
    try:
        # What C has on the stack counts in some versions of Python, and is not seen.
        sys._getframe(sys.getrecursionlimit() // 4)
    except ValueError:
        return
    _reach(_ACTION_DEPTH)


def _reach(depth: int) -> None:
    if depth:
        _reach(depth - 1)


class _Place(threading.local):
    """Where each thread is."""

    # It reads: what it waits for would not come.
    is_reader = False
    _entered = False

    def enter(self, part: Callable[..., _T], *arguments: Any) -> _T:
        """Runs a part of a link in which a thread may hold what others need: what runs there beside it, a signal
        handler or a finalizer, waits for nothing."""
        before = self._entered
        try:
            self._entered = True
            return part(*arguments)
        finally:
            self._entered = before

    def is_inside(self) -> bool:
        if self._entered:
            # Unless an interrupt has come between ``try`` and its ``finally``, as with Python 3.9 it may: then that
            # did not run, and its frame is gone.
            frame: Optional[types.FrameType] = sys._getframe(1)
            while frame is not None and frame.f_code is not _Place.enter.__code__:
                frame = frame.f_back
            self._entered = frame is not None
        return self._entered


def _locked(lock: Any, part: Callable[..., _T], *arguments: Any) -> _T:
    # What a signal handler or a finalizer does within such a part leaves the lock to that.
    is_within = lock._is_owned()
    try:
        with lock:
            return part(*arguments)
    finally:
        # An interrupt may come where a condition has locked and not returned, in Python 3.9 just before the end of a
        # ``with``, too. Otherwise it is unlocked by now.
        while not is_within and lock._is_owned():
            lock.release()


class _Workers:
    """Threads that run jobs, in their order. They start when they are needed, and end two seconds after."""

    def __init__(self, name: str, limit: int, place: Optional[_Place] = None) -> None:
        self._name, self._limit, self._place = name, max(1, limit), place or _Place()
        self._change = threading.Condition()
        self._jobs: Deque[Callable[[], None]] = collections.deque()
        self._threads: Set[threading.Thread] = set()
        self._n_idle = 0
        self._closed = False

    def submit(self, job: Callable[[], None], urgent: bool = False) -> bool:
        """``urgent``: it gets a thread of its own rather than wait. ``False`` if it cannot run."""
        return self._place.enter(self._submit, job, urgent)

    def withdraw(self, job: Callable[[], None]) -> bool:
        """Takes a job back that waits. ``False`` if it has begun."""
        return self._place.enter(_locked, self._change, self._remove, job)

    def close(self, limit: float) -> None:
        """No more jobs; waits for those that run."""
        threads = self._place.enter(_locked, self._change, self._end)
        end = time.monotonic() + limit
        for thread in threads:
            # One that is about to start cannot be joined, and finds out by itself.
            with contextlib.suppress(RuntimeError):
                thread.join(_wait_time(end - time.monotonic()))

    def _submit(self, job: Callable[[], None], urgent: bool) -> bool:
        thread: Optional[threading.Thread] = None

        def put() -> Optional[bool]:
            """``None`` where it takes a thread that is to be started."""
            nonlocal thread
            if self._closed:
                return False
            if self._n_idle > len(self._jobs):
                self._jobs.append(job)
                self._change.notify()
                return True
            if not urgent and len(self._threads) >= self._limit:
                self._jobs.append(job)
                return True
            thread = threading.Thread(target=self._run, args=(job,), name=self._name, daemon=True)
            self._threads.add(thread)
            return None

        try:
            outcome = _locked(self._change, put)
            if thread is not None:
                thread.start()
            return outcome is not False
        except RuntimeError:
            return False
        finally:
            if thread is not None and thread.ident is None:
                # An interrupt, too, leaves none that takes a place and does not run.
                self._threads.discard(thread)

    def _remove(self, job: Callable[[], None]) -> bool:
        try:
            self._jobs.remove(job)
            return True
        except ValueError:
            return False

    def _end(self) -> List[threading.Thread]:
        self._closed = True
        self._change.notify_all()
        return list(self._threads)

    def _run(self, job: Optional[Callable[[], None]]) -> None:
        while job is not None:
            try:
                job()
            except BaseException as error:
                # Whatever handles the record may fail as well, and the thread goes on.
                with contextlib.suppress(BaseException):
                    _log.warning("a callback failed: %r", error, exc_info=error)
            job = self._place.enter(_locked, self._change, self._next)

    def _next(self) -> Optional[Callable[[], None]]:
        # One that came beyond the limit goes first.
        if not self._jobs and len(self._threads) <= self._limit and not self._closed:
            self._n_idle += 1
            self._change.wait(2.0)
            self._n_idle -= 1
        if self._jobs:
            return self._jobs.popleft()
        self._threads.discard(threading.current_thread())
        return None


class Pending:
    """A call that was started. Losing the last reference to it cancels the call, unless it calls back."""

    # Where an interrupt came before there was one, too.
    _call: Optional[_Call] = None

    def __init__(self, link: Link, raw: bool) -> None:
        self._link, self._raw = link, raw
        self._done = _ThreadSignal()
        self._callbacks: Deque[Callable[[Pending], None]] = collections.deque()

    @property
    def path(self) -> str:
        """What was called."""
        return self._call.path if self._call is not None else ""

    def done(self) -> bool:
        """Whether it has ended. Does not block."""
        return self._done.is_set()

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Blocks until it has ended, at most for ``timeout`` seconds; says whether it has."""
        return self._link._wait_for(self._done, timeout)

    def result(self) -> Any:
        """Blocks until it has ended, which it does at its own deadline at the latest. Gives its value, or raises its
        :class:`CallError`."""
        self.wait()
        assert self._call is not None
        return _outcome(self._call, self._raw)

    def cancel(self) -> None:
        """Gives the call up: it ends as :class:`Cancelled`, and the other side is told. Does not block."""
        call = self._call
        if call is not None and not call.is_done:
            self._link._soon(lambda machine, now: machine.cancel(call, Cancelled()))

    def then(self, callback: Callable[[Pending], None]) -> None:
        """Runs ``callback(self)`` on a thread of the link once the call has ended, or soon if it has; if no thread can
        be started, it does not run."""
        self._link._check_owner()
        urgent = self._done.is_set()
        self._link._kept.add(self)
        self._callbacks.append(callback)
        if self._done.is_set():
            self._call_back(urgent)

    def _end(self, call: _Call) -> None:
        self._call = call
        self._done.set()
        self._call_back()

    def _call_back(self, urgent: bool = False) -> None:
        """Once it has ended. Whoever comes last, its end or a callback, finds the other: each is taken once."""
        while self._callbacks:
            with contextlib.suppress(IndexError):
                self._link._aside(functools.partial(self._callbacks.popleft(), self), urgent)
        self._link._kept.discard(self)

    def __del__(self) -> None:
        call = self._call
        if call is not None and not call.is_done:
            self._link._put_off(lambda machine, now: machine.cancel(call, Cancelled()))


class Incoming(Iterator[Any]):
    """The items of a stream that come here, in their order: an iterator that blocks.

    What ends the stream is raised once, as a :class:`CallError`, behind what came before. It is a context manager, too;
    at its end, or by :meth:`close`, the other side is told that no more are wanted.
    """

    def __init__(self, link: Link, inflow: _Inflow, pending: Optional[Pending]) -> None:
        self._link, self._inflow = link, inflow
        # Nothing is left of the call without the items.
        self._pending = pending
        # Whose items they are, lest that is lost while somebody takes them.
        self._of: Optional[Pending] = None
        self._over = False

    def __iter__(self) -> Incoming:
        return self

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Blocks until :func:`next` would not, at most for ``timeout`` seconds; says whether that is so."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self._over and not self._link._with(self._look):
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0 or not self._link._wait_for(self._inflow.signal, left):
                return self._over or bool(self._link._with(self._look))
        return True

    def _look(self, machine: _Machine, now: float) -> bool:
        news = bool(self._inflow.queue) or self._inflow.over or self._inflow.deaf
        if not news:
            self._inflow.signal.clear()
        return news

    def __next__(self) -> Any:
        while not self._over:
            item = self._link._with(self._take)
            if isinstance(item, bytes):
                try:
                    return _result(item)
                except Decode:
                    self.close()
                    raise
            if item is not None:
                raise item
            if not self._over:
                self._link._wait_for(self._inflow.signal)
        raise StopIteration

    def _take(self, machine: _Machine, now: float) -> Union[bytes, CallError, None]:
        """The next item, what has ended them, or neither. In one step: others may take some of them."""
        item = machine.next_item(self._inflow)
        if item is None and not self._look(machine, now):
            return None
        if item is None and not self._over:
            self._over = True
            return self._inflow.error
        return item

    def close(self) -> None:
        """No more are wanted: iterating is over, on another thread too. Idempotent; does not block."""
        self._over = True
        if self._pending is not None:
            self._pending.cancel()
        self._link._soon(lambda machine, now: machine.stop_items(self._inflow))

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Outgoing:
    """Where the items of a stream go out."""

    def __init__(self, link: Link, outflow: _Outflow) -> None:
        self._link, self._outflow = link, outflow

    def send(self, item: Any, timeout: Optional[float] = None) -> None:
        """Blocks while the other side takes none. Raises what ended the stream, :class:`Cancelled` if no more are
        wanted, or ``TimeoutError`` after ``timeout`` seconds."""
        body = _arguments(item)
        end = None if timeout is None else time.monotonic() + timeout

        def put(machine: _Machine, now: float) -> Union[bool, CallError]:
            taken = machine.put_item(self._outflow, body)
            if not taken:
                self._outflow.signal.clear()
            return taken

        while not _raised(self._link._with(put)):
            left = None if end is None else max(0.0, end - time.monotonic())
            if not self._link._wait_for(self._outflow.signal, left):
                raise TimeoutError("the other side takes no items")

    def end(self) -> None:
        """No more come. Idempotent; does not block."""
        self._link._check_owner()
        self._link._soon(lambda machine, now: machine.end_items(self._outflow))


class Upload:
    """A call that sends items. As a context manager it cancels the call unless it was finished."""

    def __init__(self, link: Link, pending: Pending) -> None:
        assert pending._call is not None and pending._call.outflow is not None
        self._pending, self._out = pending, Outgoing(link, pending._call.outflow)

    def send(self, item: Any, timeout: Optional[float] = None) -> None:
        """As :meth:`Outgoing.send`. What ended the call is raised here, too."""
        self._out.send(item, timeout)

    def finish(self) -> Any:
        """No more come: blocks until the result is here, or raises what ended the call."""
        self._out.end()
        return self._pending.result()

    def cancel(self) -> None:
        """Gives the call up."""
        self._pending.cancel()

    def __enter__(self: _T) -> _T:
        return self

    def __exit__(self, *error: object) -> None:
        self.cancel()


class Duplex(Upload):
    """A call that sends items and takes some: iterate over it, on another thread than the one that sends if you like."""

    def __init__(self, link: Link, pending: Pending) -> None:
        super().__init__(link, pending)
        assert pending._call is not None and pending._call.inflow is not None
        self.incoming = Incoming(link, pending._call.inflow, None)
        self.incoming._of = pending

    def __iter__(self) -> Iterator[Any]:
        return self.incoming

    def end(self) -> None:
        """No more come from here; those from there still do."""
        self._out.end()


class Link(_Owned):
    """One end of a link, for threads. Made by :func:`connect` and :func:`from_env`.

    One thread reads; handlers, callbacks and the handlers of the log run on others, which start when they are needed.
    No call blocks longer than its own timeout. As a context manager it closes the link in the end.

    A signal handler and a finalizer may run in the middle of a method of the same link, on the same thread. What only
    ends something is done all the same, by then or soon after, and does not wait: :meth:`close`, the cancel of a call,
    the close and the end of a stream. Whatever else they ask of the link raises :class:`Misuse` there. So does all that
    would wait in a finalizer which the collector runs on the thread that reads.

    A signal handler that raises, as that of Ctrl-C does, may cut such a method off half way. Then the link ends as
    ``BROKEN``, unless the method only waited. For a call that is to end in time, its timeout is the better way.
    """

    def __init__(
        self, opened: socket.socket, side: Side, tokens: Tuple[bytes, bytes], limits: Limits, serve: Iterable[Api]
    ) -> None:
        super().__init__()
        self.limits = limits
        self._socket = opened
        opened.setblocking(False)
        self._lock, self._place = threading.RLock(), _Place()
        # The thread that acts on the machine, 0, or what is neither, for one that was cut off.
        self._acting, self._cut_off = 0, ""
        self._machine = _Machine(side, tokens, limits, time.monotonic(), _ThreadSignal, self._dispatch, self._aside)
        self._machine.handlers = _collect({}, serve)
        self._out = memoryview(b"")
        self._cannot_send = self._blocked = False
        # When the reader looks again by itself, and whether it is the reader that acts, before it finds that out.
        self._armed, self._turning = float("inf"), False
        # What is to be done by whoever acts next.
        self._later: Deque[Callable[[_Machine, float], object]] = collections.deque()
        # What calls back, and need not be held by anybody.
        self._kept: Set[Pending] = set()
        self._opened, self._idle, self._ended = _ThreadSignal(), _ThreadSignal(), _ThreadSignal()
        self._handlers = _Workers("nape-handler", limits.workers, self._place)
        self._callbacks = _Workers("nape-callback", 2, self._place)
        with contextlib.ExitStack() as undo, _starts("the link cannot be run"):
            undo.callback(opened.close)
            self._woken, self._waker = socket.socketpair()
            undo.callback(self._woken.close)
            undo.callback(self._waker.close)
            self._woken.setblocking(False)
            self._waker.setblocking(False)
            selector = selectors.DefaultSelector()
            undo.callback(selector.close)
            selector.register(self._woken, selectors.EVENT_READ)
            selector.register(self._socket, selectors.EVENT_READ)
            self._reader = threading.Thread(target=self._read, args=(selector,), name="nape-reader", daemon=True)
            self._reader.start()
            # They are the reader's.
            undo.pop_all()
        # Greets.
        self._with(lambda machine, now: None)

    # Calling.

    def call(self, path: str, value: Any = None, *, timeout: _Timeout = _UNSET, raw: bool = False) -> Any:
        """Calls, and blocks until the value is here; raises a :class:`CallError` if there is none.

        ``timeout`` is in seconds; without one it is that of the limits, and ``None`` is no limit. With ``raw`` the
        value comes as bytes, as it is.
        """
        self._check_wait()
        pending = self.start(path, value, timeout=timeout, raw=raw)
        try:
            return pending.result()
        finally:
            pending.cancel()

    def start(self, path: str, value: Any = None, *, timeout: _Timeout = _UNSET, raw: bool = False) -> Pending:
        """Starts a call, and does not block. Raises only :class:`Misuse`, and ``TypeError`` or ``ValueError`` for a
        timeout that is no number; whatever else is wrong ends the call."""
        return self._start(path, value, timeout, raw, _Way.NONE)

    def fire(self, path: str, value: Any = None) -> None:
        """Sends an event: nobody answers. Does not block; raises when it cannot be sent at all."""
        body = _arguments(value)
        _check_path(path)
        _raised(self._with(lambda machine, now: machine.fire(path, body)))

    def stream(self, path: str, value: Any = None, *, timeout: _Timeout = _UNSET) -> Incoming:
        """Calls what makes items. ``timeout`` is until it has begun."""
        pending = self._start(path, value, timeout, False, _Way.TAKES)
        assert pending._call is not None and pending._call.inflow is not None
        return Incoming(self, pending._call.inflow, pending)

    def upload(self, path: str, value: Any = None, *, timeout: _Timeout = _UNSET) -> Upload:
        """Calls what takes items. ``timeout`` is until it has begun."""
        return Upload(self, self._start(path, value, timeout, False, _Way.SENDS))

    def duplex(self, path: str, value: Any = None, *, timeout: _Timeout = _UNSET) -> Duplex:
        """Calls what takes items and makes some. ``timeout`` is until it has begun."""
        return Duplex(self, self._start(path, value, timeout, False, _Way.BOTH))

    def _start(self, path: str, value: Any, timeout: _Timeout, raw: bool, way: _Way) -> Pending:
        body = _arguments(value)
        _check_path(path)
        limit = _limit(timeout, self.limits)
        pending = Pending(self, raw)
        parent, held = _current.get(), weakref.ref(pending)

        def end(call: _Call) -> None:
            # Nobody but its user holds it, so that losing it ends the call.
            waiting = held()
            if waiting is not None:
                waiting._end(call)

        def begin(machine: _Machine, now: float) -> None:
            pending._call = machine.start(path, body, now, limit, way, end, parent)

        self._with(begin)
        return pending

    # Serving.

    def serve(self, api: Api) -> None:
        """Serves one more. Raises ``ValueError`` if a path of it is served already."""

        def add(machine: _Machine, now: float) -> Optional[ValueError]:
            try:
                machine.handlers = _collect(machine.handlers, [api])
            except ValueError as error:
                return error
            return None

        error = self._with(add)
        if error is not None:
            raise error

    def _dispatch(self, served: _Served, handler: _Handler, arguments: bytes) -> None:
        job = lambda: self._run(served, handler, arguments)  # noqa: E731
        if not self._handlers.submit(job, urgent=served.descends):
            record = _write_record(3, 0, 0, [served.path, "no thread could be started"])
            self._soon(lambda machine, now: machine.answer(served, _Kind.FAULT, record))

    def _run(self, served: _Served, handler: _Handler, arguments: bytes) -> None:
        kind, body = _Kind.FAULT, self._machine.refusal(served, time.monotonic()) or b""
        before = _current.set(served)
        try:
            if not body:
                kind, body = _reply(self._handle(served, handler, arguments))
        except BaseException as error:
            kind, body = _failure(served, error)
            if not isinstance(error, Exception):
                _log.warning("the handler of %s ended with %r", served.path, error)
        finally:
            _current.reset(before)
            self._with(lambda machine, now: machine.answer(served, kind, body))

    def _handle(self, served: _Served, handler: _Handler, arguments: bytes) -> Any:
        context, value = Context(self, served), _parse(handler, arguments)
        self._with(lambda machine, now: machine.accept(served))
        ends: List[Any] = []
        if served.inflow is not None:
            ends.append(Incoming(self, served.inflow, None))
        if served.outflow is not None:
            ends.append(Outgoing(self, served.outflow))
        if handler.way is _Way.TAKES:
            return self._make_items(served, handler.function(context, value), ends[0])
        result = handler.function(context, value, *ends)
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError(f"the handler of {served.path} is a coroutine function, and this link has threads")
        return result

    def _make_items(self, served: _Served, items: Iterable[Any], out: Outgoing) -> None:
        try:
            for item in items:
                try:
                    out.send(item)
                except Cancelled:
                    return
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    # State.

    @property
    def is_open(self) -> bool:
        """Whether both sides have greeted and are ready, and the link is not over."""
        return self._machine.peer_ready and self._machine.reason is None

    @property
    def close_reason(self) -> Optional[CloseReason]:
        """Why the link is over; ``None`` while it is not."""
        return self._machine.reason

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Blocks until the link is over, at most for ``timeout`` seconds; says whether it is. For a program that only
        serves."""
        self._check_owner()
        return self._wait_for(self._ended, timeout)

    def shut_down(self, limit: float) -> bool:
        """Takes no new calls in either direction, waits for those under way for at most ``limit`` seconds, then
        closes. Says whether all had ended."""
        if limit > 0:
            self._check_wait()
        self._with(lambda machine, now: machine.go_away())
        ended = self._wait_for(self._idle, limit)
        self.close()
        return ended

    def close(self) -> None:
        """Ends the link and all of its calls. Events that wait still leave, and handlers return, within the grace of
        the limits, for which it blocks at most; in a handler and in a callback of this link it does not block.
        Idempotent."""
        if self._is_forked():
            return
        # Where it would wait for this very thread: for what it has interrupted here, in a handler or in a callback.
        inside = self._place.is_inside() or self._is_own_thread()
        self._soon(lambda machine, now: machine.close(now))
        if not inside:
            self._ended.wait(self.limits.grace + _LINGER + 1.0)

    def _is_own_thread(self) -> bool:
        """Whether the end of the link waits for this thread, or for the handler that has started it."""
        thread, served = threading.current_thread(), _current.get()
        is_handling = served is not None and served.machine is self._machine and not served.answered
        own = thread is self._reader or thread in self._handlers._threads or thread in self._callbacks._threads
        return own or is_handling

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _check_wait(self) -> None:
        self._check_owner()
        # Where this is a signal handler or a finalizer that would wait for what it has interrupted.
        if self._place.is_reader or self._place.is_inside():
            raise Misuse(_MISUSES[4])

    def _wait_for(self, signal: Any, timeout: Optional[float] = None) -> bool:
        if signal.is_set():
            return True
        if timeout is not None and timeout <= 0:
            self._check_owner()
            return False
        self._check_wait()
        return bool(signal.wait(timeout))

    def _wait_open(self, limit: float) -> None:
        reason, ready = None, False
        try:
            self._opened.wait(limit)
            reason, ready = self.close_reason, self.is_open
        finally:
            if not ready:
                self._with(lambda machine, now: machine.hang_up())
        if not ready:
            # Should the other side read the goodbye at once, nothing is left of it.
            self._ended.wait(_MOMENT)
            raise StartError(str(reason or "the other side is there, and was not ready in time"), reason)

    # Below.

    def _aside(self, job: Callable[[], None], urgent: bool = False) -> None:
        """Runs what may block on a thread for which nobody waits."""
        if not self._callbacks.submit(job, urgent):
            # The link is over, and so are its threads. Where no other can be started, the job is lost: here it could
            # wait for what only this thread does.
            with contextlib.suppress(RuntimeError):
                threading.Thread(target=job, name="nape-callback", daemon=True).start()

    def _with(self, act: Callable[[_Machine, float], _T]) -> _T:
        """Acts on the machine, sends what may be sent, and does what is to be done."""
        # Before the lock, which a thread may have held that the fork has left behind.
        self._check_owner()
        if self._place.is_inside():
            # This is a signal handler or a finalizer, and what it has interrupted is half done.
            raise Misuse(_MISUSES[4])
        _check_stack()
        return self._place.enter(self._within, act)

    def _within(self, act: Callable[[_Machine, float], _T]) -> _T:
        todo: Deque[Callable[[], None]] = collections.deque()
        try:
            try:
                return _locked(self._lock, self._act, act, todo)
            finally:
                if todo:
                    self._do(todo)
        except BaseException:
            if todo:
                # Somebody may wait for what was cut off: it is done again where no signal handler runs.
                self._aside(functools.partial(_do_all, list(todo), self._aside), urgent=True)
            raise

    def _act(self, act: Callable[[_Machine, float], _T], todo: Deque[Callable[[], None]]) -> _T:
        """The part under the lock. What the machine does raises nothing: an exception out of here comes from a signal
        handler, which in Python may raise between any two steps, and leaves an action that is half done."""
        if self._acting:
            self._break_down()
        self._acting = threading.get_ident()
        try:
            now = time.monotonic()
            while self._later:
                self._later.popleft()(self._machine, now)
            outcome = act(self._machine, now)
            self._flush(todo)
            self._acting = 0
            return outcome
        except BaseException as error:
            self._cut_off, self._acting = repr(error), _CUT_OFF
            self._wake()
            raise

    def _break_down(self) -> None:
        """Ends the link for which an action was cut off: nobody knows what of its bytes has left, and what it did."""
        self._out, self._cannot_send = memoryview(b""), True
        self._machine.break_down(CloseReason(CloseKind.BROKEN, f"an action was cut off half way: {self._cut_off}"))

    def _do(self, todo: Deque[Callable[[], None]]) -> None:
        if threading.get_ident() == self._reader.ident:
            _do_all(list(todo), self._aside)
            return todo.clear()
        while todo:
            todo[0]()
            # Only now: whatever cuts it off finds it still there.
            todo.popleft()

    def _soon(self, act: Callable[[_Machine, float], object]) -> None:
        """Acts where nobody waits for what comes of it: at once, or by another thread if this or another one is inside.
        So it does not block, whatever it is that has been interrupted here."""
        if self._is_forked():
            return
        if self._acting or self._place.is_inside():
            self._put_off(act)
        else:
            self._later.append(act)
            self._with(lambda machine, now: None)

    def _put_off(self, act: Callable[[_Machine, float], object]) -> None:
        """Has the reader act. Takes no lock: this runs wherever the collector does."""
        self._later.append(act)
        self._wake()

    def _flush(self, todo: Deque[Callable[[], None]]) -> None:
        machine, now = self._machine, time.monotonic()
        # Else this may be a finalizer on the thread of the reader, which has found out how long it sleeps.
        turning, self._turning = self._turning, False
        # While the socket is full the reader waits until it takes more, and nobody asks it before.
        while not (self._cannot_send or self._blocked):
            if not self._out:
                self._out = memoryview(machine.take_output(now))
                if not self._out:
                    break
            try:
                self._out = self._out[self._socket.send(self._out) :]
            except (BlockingIOError, InterruptedError):
                self._blocked = True
                if not turning:
                    self._wake()
            except OSError as error:
                if error.errno is None:
                    # The TimeoutError of a signal handler, say.
                    raise
                self._cannot_send = True
                if not isinstance(error, ConnectionError):
                    machine.lose(_io_reason(error))
                # Else the reader takes what the other side had sent before it went, and finds out.
        due = machine.due()
        at = float("inf") if due is None else due
        if turning:
            self._armed = at
        elif machine.closed or at < self._armed:
            self._wake()
        if machine.peer_ready or machine.closed:
            self._opened.set()
        if (machine.going_away or machine.closed) and machine.is_idle():
            self._idle.set()
        machine.move_todo(todo)

    def _wake(self) -> None:
        if self._is_forked():
            return
        try:
            self._waker.send(b"\0")
        except OSError as error:
            # Full, so that it wakes anyway; or closed, and nobody is left to be woken.
            if error.errno is None:
                raise

    def _read(self, selector: selectors.BaseSelector) -> None:
        self._place.is_reader = True
        try:
            while not self._machine.closed:
                self._read_once(selector)
        except BaseException as error:
            reason = CloseReason(CloseKind.BROKEN, repr(error))
            self._with(lambda machine, now: machine.lose(reason))
            self._aside(functools.partial(_log.error, "the reader of a link failed", exc_info=error))
        finally:
            with contextlib.ExitStack() as last:
                # From the last to the first, whatever fails: somebody waits for the end.
                for each in (self._ended.set, selector.close, self._waker.close, self._woken.close, self._socket.close):
                    last.callback(each)
                self._hang_up()

    def _read_once(self, selector: selectors.BaseSelector) -> None:
        # Whoever wants it to look earlier, or for more than that, wakes it.
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._blocked else 0)
        if selector.get_key(self._socket).events != wanted:
            selector.modify(self._socket, wanted)
        left = min(3600.0, max(0.0, self._armed - time.monotonic()))
        ready = {key.fileobj: events for key, events in selector.select(left)}
        data: Optional[bytes] = None
        if self._woken in ready:
            self._woken.recv(4096)
        if ready.get(self._socket, 0) & selectors.EVENT_READ:
            data = self._receive()

        def act(machine: _Machine, now: float) -> None:
            self._turning = True
            if ready.get(self._socket, 0) & selectors.EVENT_WRITE:
                self._blocked = False
            if data:
                machine.feed(data, now)
            elif data is not None:
                machine.end_of_stream()
            machine.tick(now)

        self._with(act)

    def _receive(self) -> Optional[bytes]:
        try:
            return self._socket.recv(1 << 18)
        except (BlockingIOError, InterruptedError):
            return None
        except ConnectionError:
            return b""
        except OSError as error:
            reason = _io_reason(error)
            self._with(lambda machine, now: machine.lose(reason))
            return None

    def _hang_up(self) -> None:
        """Sends the last words, and waits a moment for the other side to have read them."""
        rest = self._with(self._take_rest)
        end = time.monotonic() + _LINGER
        try:
            self._socket.settimeout(_LINGER)
            self._socket.sendall(rest)
            self._socket.shutdown(socket.SHUT_WR)
            # What is unread when the socket closes could take the last words with it.
            while time.monotonic() < end and self._socket.recv(1 << 16):
                pass
        except OSError:
            pass
        self._socket.close()
        self._handlers.close(self.limits.grace)
        self._callbacks.close(self.limits.grace)

    def _take_rest(self, machine: _Machine, now: float) -> bytes:
        """What was begun and the last words behind it, which nobody sends any more but whoever takes them."""
        rest = b"" if self._cannot_send else bytes(self._out) + machine.take_output(now)
        self._out, self._cannot_send = memoryview(b""), True
        return rest


_LINGER, _MOMENT = 0.5, 0.2
_CUT_OFF = -1


def _io_reason(error: OSError) -> CloseReason:
    return CloseReason(CloseKind.IO, error.strerror or str(error), error.errno or 0)


def connect(
    address: str,
    *,
    side: Side = Side.NECK,
    token: Optional[Token] = None,
    serve: Iterable[Api] = (),
    limits: Limits = Limits(),
    allow: Optional[Allow] = None,
) -> Link:
    """Connects to a program that listens at ``unix:/path`` or ``tcp:127.0.0.1:port``; blocks until that is ready.

    A Head that listens meets a Neck, and the other way round: ``side`` is this one. Over TCP a ``token`` is needed.
    Over a Unix socket ``allow`` says who may listen there: by default processes of the same user. Raises
    :class:`StartError`, within the start timeout of the limits and 0.2 seconds.
    """
    apis = list(serve)
    _collect({}, apis)
    began = time.monotonic()
    link = Link(_dial(address, token, limits.start_timeout, allow), side, _tokens(token), limits, apis)
    link._wait_open(limits.start_timeout - (time.monotonic() - began))
    return link


def from_env(*, serve: Iterable[Api] = (), limits: Limits = Limits()) -> Link:
    """Finds the Head that started this process, which has to have chosen ``Wire::Pipe``.

    From here on this process ends with its Head: half a second after it, should it still be there. Raises
    :class:`StartError` when no Head started this process, or when this was called before.
    """
    apis = list(serve)
    _collect({}, apis)
    inherited, token, lifeline = _inherited()
    _follow(lifeline)
    link = Link(inherited, Side.NECK, (token, token), limits, apis)
    link._wait_open(limits.start_timeout)
    return link


# A link with an event loop.


class _AsyncSignal(_Signal):
    def __init__(self) -> None:
        self._waiters: Set[asyncio.Future[None]] = set()
        self._is_set = False

    def set(self) -> None:
        self._is_set = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def clear(self) -> None:
        self._is_set = False

    async def wait(self) -> None:
        if self._is_set:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)


class _Held:
    """A stream's call, as whoever uses the stream holds it: losing the last reference cancels the call."""

    def __init__(self, link: AsyncLink, future: asyncio.Future[Any]) -> None:
        self._link, self.future = link, future

    def __del__(self) -> None:
        # This runs wherever the collector does.
        if not self.future.done() and not self._link._is_forked():
            with contextlib.suppress(RuntimeError):  # The loop is closed, and the link with it.
                self._link._loop.call_soon_threadsafe(self.future.cancel)


class AsyncIncoming(AsyncIterator[Any]):
    """As :class:`Incoming`, for ``async for`` and ``async with``. Losing the last reference to it closes it."""

    def __init__(self, link: AsyncLink, inflow: _Inflow, held: Optional[_Held], is_all: bool = False) -> None:
        self._link, self._inflow, self._held = link, inflow, held
        # Nothing is left of the call without the items.
        self._is_all = is_all
        self._over = False

    def __aiter__(self) -> AsyncIncoming:
        return self

    async def __anext__(self) -> Any:
        while not self._over:
            item = self._link._with(lambda machine, now: machine.next_item(self._inflow))
            if item is not None:
                try:
                    return _result(item)
                except Decode:
                    self.close()
                    raise
            if self._inflow.over:
                self._over = True
                if self._inflow.error is not None:
                    raise self._inflow.error
                break
            self._inflow.signal.clear()
            await self._inflow.signal.wait()  # type: ignore[attr-defined]
        raise StopAsyncIteration

    def close(self) -> None:
        """No more are wanted: iterating is over, in another task too. Idempotent."""
        self._over = True
        if self._link._is_forked():
            return
        if self._held is not None and self._is_all:
            self._held.future.cancel()
        self._link._with(lambda machine, now: machine.stop_items(self._inflow))

    async def __aenter__(self) -> AsyncIncoming:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()


class AsyncOutgoing:
    """As :class:`Outgoing`."""

    def __init__(self, link: AsyncLink, outflow: _Outflow) -> None:
        self._link, self._outflow = link, outflow

    async def send(self, item: Any) -> None:
        """Waits while the other side takes none. Raises what ended the stream."""
        body = _arguments(item)

        def put(machine: _Machine, now: float) -> Union[bool, CallError]:
            taken = machine.put_item(self._outflow, body)
            if not taken:
                self._outflow.signal.clear()
            return taken

        while not _raised(self._link._with(put)):
            await self._outflow.signal.wait()  # type: ignore[attr-defined]

    def end(self) -> None:
        """No more come. Idempotent."""
        self._link._with(lambda machine, now: machine.end_items(self._outflow))


class AsyncUpload:
    """As :class:`Upload`, for ``async with``. Losing the last reference to it cancels the call."""

    def __init__(self, link: AsyncLink, call: _Call, future: asyncio.Future[Any]) -> None:
        assert call.outflow is not None
        self._held, self._out = _Held(link, future), AsyncOutgoing(link, call.outflow)

    async def send(self, item: Any) -> None:
        """As :meth:`AsyncOutgoing.send`. What ended the call is raised here, too."""
        await self._out.send(item)

    async def finish(self) -> Any:
        """No more come: waits for the result, or raises what ended the call."""
        self._out.end()
        return await self._held.future

    def cancel(self) -> None:
        """Gives the call up."""
        self._held.future.cancel()

    async def __aenter__(self: _T) -> _T:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.cancel()


class AsyncDuplex(AsyncUpload):
    """As :class:`Duplex`: ``async for`` gives what comes."""

    def __init__(self, link: AsyncLink, call: _Call, future: asyncio.Future[Any]) -> None:
        super().__init__(link, call, future)
        assert call.inflow is not None
        self.incoming = AsyncIncoming(link, call.inflow, self._held)

    def __aiter__(self) -> AsyncIncoming:
        return self.incoming

    def end(self) -> None:
        """No more come from here; those from there still do."""
        self._out.end()


class AsyncLink(_Owned, asyncio.Protocol):
    """One end of a link, for asyncio. Made by :func:`connect_async` and :func:`from_env_async`.

    Everything belongs to the thread of its event loop. Handlers are coroutine functions, each in a task of its own;
    plain functions are taken for calls without streams and run on threads. As an asynchronous context manager it
    closes the link in the end.
    """

    def __init__(self, side: Side, tokens: Tuple[bytes, bytes], limits: Limits, serve: Iterable[Api]) -> None:
        super().__init__()
        self.limits = limits
        self._loop = asyncio.get_running_loop()
        self._machine = _Machine(side, tokens, limits, time.monotonic(), _AsyncSignal, self._dispatch)
        self._machine.handlers = _collect({}, serve)
        self._transport: Optional[asyncio.Transport] = None
        self._timer: Optional[asyncio.TimerHandle] = None
        self._timer_at = float("inf")
        self._opened, self._ended, self._idle = _AsyncSignal(), _AsyncSignal(), _AsyncSignal()
        # Of each handler that runs.
        self._tasks: Set[asyncio.Future[None]] = set()
        self._handlers = _Workers("nape-handler", limits.workers)
        self._pumping = self._paused = False
        self._hang_up: Optional[asyncio.TimerHandle] = None

    # Calling.

    async def call(self, path: str, value: Any = None, *, timeout: _Timeout = _UNSET, raw: bool = False) -> Any:
        """As :meth:`Link.call`. Cancelling the task gives the call up, and the other side is told."""
        return await self.start(path, value, timeout=timeout, raw=raw)

    def start(
        self, path: str, value: Any = None, *, timeout: _Timeout = _UNSET, raw: bool = False
    ) -> asyncio.Future[Any]:
        """Starts a call; the future gives its value or its :class:`CallError`. Cancelling it gives the call up."""
        return self._start(path, value, timeout, raw, _Way.NONE)[1]

    def fire(self, path: str, value: Any = None) -> None:
        """Sends an event: nobody answers. Raises when it cannot be sent at all."""
        body = _arguments(value)
        _raised(self._with(lambda machine, now: machine.fire(path, body)))

    def stream(self, path: str, value: Any = None, *, timeout: _Timeout = _UNSET) -> AsyncIncoming:
        """Calls what makes items. ``timeout`` is until it has begun."""
        call, future = self._start(path, value, timeout, False, _Way.TAKES)
        assert call.inflow is not None
        return AsyncIncoming(self, call.inflow, _Held(self, future), is_all=True)

    def upload(self, path: str, value: Any = None, *, timeout: _Timeout = _UNSET) -> AsyncUpload:
        """Calls what takes items. ``timeout`` is until it has begun."""
        return AsyncUpload(self, *self._start(path, value, timeout, False, _Way.SENDS))

    def duplex(self, path: str, value: Any = None, *, timeout: _Timeout = _UNSET) -> AsyncDuplex:
        """Calls what takes items and makes some. ``timeout`` is until it has begun."""
        return AsyncDuplex(self, *self._start(path, value, timeout, False, _Way.BOTH))

    def _start(
        self, path: str, value: Any, timeout: _Timeout, raw: bool, way: _Way
    ) -> Tuple[_Call, asyncio.Future[Any]]:
        body = _arguments(value)
        limit = _limit(timeout, self.limits)
        future: asyncio.Future[Any] = self._loop.create_future()

        def end(call: _Call) -> None:
            if future.done():
                return
            try:
                future.set_result(_outcome(call, raw))
            except CallError as error:
                future.set_exception(error)
                if way is not _Way.NONE:
                    # It is told at the ends of the stream, whether anybody asks the future or not.
                    future.exception()

        parent = _current.get()
        call = self._with(lambda machine, now: machine.start(path, body, now, limit, way, end, parent))

        def give_up(ended: asyncio.Future[Any]) -> None:
            if ended.cancelled() and not self._is_forked():
                self._with(lambda machine, now: machine.cancel(call, Cancelled()))

        future.add_done_callback(give_up)
        return call, future

    # Serving.

    def serve(self, api: Api) -> None:
        """Serves one more. Raises ``ValueError`` if a path of it is served already."""
        self._machine.handlers = _collect(self._machine.handlers, [api])

    def _dispatch(self, served: _Served, handler: _Handler, arguments: bytes) -> None:
        if served.cancelled:
            # It was given up in the same breath, and nothing would cancel a task that begins now.
            return self._machine.answer(served, _Kind.FAULT, _write_record(49))
        if handler.way is _Way.NONE and not inspect.iscoroutinefunction(handler.function):
            return self._dispatch_plain(served, handler, arguments)
        task = self._loop.create_task(self._run(served, handler, arguments))
        self._tasks.add(task)

        def ended(task: asyncio.Future[None]) -> None:
            self._tasks.discard(task)
            if not served.answered:
                # It was cancelled before it had begun.
                self._with(lambda machine, now: machine.answer(served, _Kind.FAULT, _write_record(49)))

        task.add_done_callback(ended)
        served.on_cancel = task.cancel  # type: ignore[assignment]

    def _dispatch_plain(self, served: _Served, handler: _Handler, arguments: bytes) -> None:
        """Has a plain function run on a thread. The call counts as served until that has ended, given up or not."""
        task: asyncio.Future[None] = self._loop.create_future()

        def answer(kind: _Kind, body: bytes) -> None:
            self._tasks.discard(task)
            if not task.done():
                task.set_result(None)
            self._with(lambda machine, now: machine.answer(served, kind, body))

        def job() -> None:
            kind, body = _Kind.FAULT, self._machine.refusal(served, time.monotonic()) or b""
            before = _current.set(served)
            try:
                if not body:
                    kind, body = _reply(handler.function(Context(self, served), _parse(handler, arguments)))
            except BaseException as error:
                kind, body = _failure(served, error)
            finally:
                _current.reset(before)
                with contextlib.suppress(RuntimeError):  # The loop is closed, and the link with it.
                    self._loop.call_soon_threadsafe(answer, kind, body)

        def give_up() -> None:
            if self._handlers.withdraw(job):
                answer(_Kind.FAULT, _write_record(49))

        self._tasks.add(task)
        served.on_cancel = give_up
        if not self._handlers.submit(job, urgent=served.descends):
            answer(_Kind.FAULT, _write_record(3, 0, 0, [served.path, "no thread could be started"]))

    async def _run(self, served: _Served, handler: _Handler, arguments: bytes) -> None:
        kind, body = _Kind.FAULT, _write_record(49)
        _current.set(served)
        try:
            kind, body = _reply(await self._handle(served, handler, arguments))
        except asyncio.CancelledError:
            pass
        except Exception as error:
            kind, body = _failure(served, error)
        finally:
            self._with(lambda machine, now: machine.answer(served, kind, body))

    async def _handle(self, served: _Served, handler: _Handler, arguments: bytes) -> Any:
        context, value = Context(self, served), _parse(handler, arguments)
        self._with(lambda machine, now: machine.accept(served))
        ends: List[Any] = []
        if served.inflow is not None:
            ends.append(AsyncIncoming(self, served.inflow, None))
        if served.outflow is not None:
            ends.append(AsyncOutgoing(self, served.outflow))
        if handler.way is _Way.TAKES:
            return await self._make_items(served, handler.function(context, value), ends[0])
        return await handler.function(context, value, *ends)

    async def _make_items(self, served: _Served, items: Any, out: AsyncOutgoing) -> None:
        if not inspect.isasyncgen(items):
            raise TypeError(f"the handler of {served.path} is no asynchronous generator function")
        try:
            async for item in items:
                try:
                    await out.send(item)
                except Cancelled:
                    return
        finally:
            await items.aclose()

    # State.

    @property
    def is_open(self) -> bool:
        """Whether both sides have greeted and are ready, and the link is not over."""
        return self._machine.peer_ready and self._machine.reason is None

    @property
    def close_reason(self) -> Optional[CloseReason]:
        """Why the link is over; ``None`` while it is not."""
        return self._machine.reason

    async def wait(self) -> None:
        """Waits until the link is over. For a program that only serves."""
        self._check_owner()
        await self._ended.wait()

    async def shut_down(self, limit: float) -> bool:
        """Takes no new calls in either direction, waits for those under way for at most ``limit`` seconds, then
        closes. Says whether all had ended."""
        self._idle.clear()
        self._with(lambda machine, now: machine.go_away())
        try:
            await asyncio.wait_for(self._idle.wait(), limit)
            return True
        except asyncio.TimeoutError:
            return False
        finally:
            await self.close()

    async def close(self) -> None:
        """Ends the link and all of its calls. Events that wait still leave, and handlers end, within the grace of the
        limits; a handler that has not is cancelled. Idempotent."""
        if self._is_forked():
            return
        self._with(lambda machine, now: machine.close(now))
        try:
            await asyncio.wait_for(self._ended.wait(), self.limits.grace + _LINGER)
        except asyncio.TimeoutError:
            if self._transport is not None:
                self._transport.abort()
        me = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not me]
        if tasks:
            # Those of calls were cancelled, those of events go on for as long.
            for task in (await asyncio.wait(tasks, timeout=self.limits.grace))[1]:
                task.cancel()

    async def __aenter__(self) -> AsyncLink:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _open(self, opened: socket.socket, limit: float) -> None:
        """Greets. Closes what was opened unless the other side is ready within the limit."""
        opened.setblocking(False)
        try:
            await self._loop.create_connection(lambda: self, sock=opened)
        except OSError as error:
            opened.close()
            raise StartError(f"the connection cannot be used: {error}") from error
        reason, ready = None, False
        try:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._opened.wait(), limit)
            reason, ready = self.close_reason, self.is_open
        finally:
            if not ready:
                self._with(lambda machine, now: machine.hang_up())
                if self._transport is not None:
                    self._transport.abort()
        if not ready:
            await self._ended.wait()
            raise StartError(str(reason or "the other side is there, and was not ready in time"), reason)

    # Below: what the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """For the event loop."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._with(lambda machine, now: None)

    def data_received(self, data: bytes) -> None:
        """For the event loop."""
        self._with(lambda machine, now: machine.feed(data, now))

    def pause_writing(self) -> None:
        """For the event loop."""
        self._paused = True

    def resume_writing(self) -> None:
        """For the event loop."""
        self._paused = False
        self._with(lambda machine, now: None)

    def eof_received(self) -> None:
        """For the event loop, which then waits until what is written has left: the other side may read it never."""
        self._with(lambda machine, now: machine.end_of_stream())

    def connection_lost(self, error: Optional[Exception]) -> None:
        """For the event loop."""
        if isinstance(error, OSError) and not isinstance(error, ConnectionError):
            reason = _io_reason(error)
            self._with(lambda machine, now: machine.lose(reason))
        else:
            self._with(lambda machine, now: machine.end_of_stream())
        for timer in (self._timer, self._hang_up):
            if timer is not None:
                timer.cancel()
        self._handlers.close(0.0)
        self._ended.set()

    def _with(self, act: Callable[[_Machine, float], _T]) -> _T:
        self._check_owner()
        try:
            return act(self._machine, time.monotonic())
        finally:
            if not self._pumping:
                self._pump()

    def _pump(self) -> None:
        """Sends what may be sent, and does what is to be done."""
        machine = self._machine
        self._pumping = True
        try:
            todo: List[Callable[[], None]] = [lambda: None]
            while todo:
                _do_all(todo, machine.aside)
                self._send()
                todo = machine.take_todo()
        finally:
            self._pumping = False
        self._arm(machine.due())
        if machine.peer_ready or machine.closed:
            self._opened.set()
        if machine.is_idle():
            self._idle.set()
        if machine.closed and self._transport is not None and self._hang_up is None:
            # What was written still leaves, if the other side reads it. Whoever else has closed the transport waits for
            # that without end.
            self._transport.close()
            self._hang_up = self._loop.call_later(_LINGER, self._transport.abort)

    def _send(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        # What acknowledges and does not read fills no memory here. The last words are few.
        while not self._paused or self._machine.closed:
            data = self._machine.take_output(time.monotonic())
            if not data:
                return
            transport.write(data)

    def _arm(self, due: Optional[float]) -> None:
        at = float("inf") if due is None else due
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = at
        if due is not None:
            self._timer = self._loop.call_later(min(3600.0, max(0.0, due - time.monotonic())), self._on_timer)

    def _on_timer(self) -> None:
        self._timer_at = float("inf")
        self._with(lambda machine, now: machine.tick(now))


async def connect_async(
    address: str,
    *,
    side: Side = Side.NECK,
    token: Optional[Token] = None,
    serve: Iterable[Api] = (),
    limits: Limits = Limits(),
    allow: Optional[Allow] = None,
) -> AsyncLink:
    """As :func:`connect`, for asyncio."""
    link = AsyncLink(side, _tokens(token), limits, serve)
    end = time.monotonic() + limits.start_timeout
    with _starts(f"cannot connect to {address}"):
        dialling = link._loop.run_in_executor(None, _dial, address, token, limits.start_timeout, allow)
    done: Set[asyncio.Future[socket.socket]] = set()
    try:
        done, _ = await asyncio.wait({dialling}, timeout=limits.start_timeout)
    finally:
        if not done:
            # Nobody takes what comes of it.
            dialling.add_done_callback(lambda late: late.cancelled() or late.exception() or late.result().close())
    if not done:
        raise StartError(f"cannot connect to {address} in time")
    await link._open(dialling.result(), end - time.monotonic())
    return link


async def from_env_async(*, serve: Iterable[Api] = (), limits: Limits = Limits()) -> AsyncLink:
    """As :func:`from_env`, for asyncio."""
    apis = list(serve)
    _collect({}, apis)
    inherited, token, lifeline = _inherited()
    _follow(lifeline)
    link = AsyncLink(Side.NECK, (token, token), limits, apis)
    await link._open(inherited, limits.start_timeout)
    return link
