"""What the tests share: the program in Rust at the other end, and a watchdog."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import faulthandler
import logging
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from typing import Any, Callable, Optional, Tuple

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import nape  # noqa: E402

# What a failing handler leaves in the log is not what the tests look at.
logging.getLogger("nape").addHandler(logging.NullHandler())
logging.getLogger("nape").propagate = False

logging.getLogger("asyncio").setLevel(logging.ERROR)

PEER = os.environ.get("NAPE_TEST_PEER", "")
GOLDEN = HERE.parents[2] / "tests" / "golden"
LONG = 30.0
"""Far more than anything takes here."""


class Test(unittest.TestCase):
    """No test may hang: after a minute all stacks are shown, and the run ends."""

    def setUp(self) -> None:
        faulthandler.dump_traceback_later(60, exit=True)
        self.addCleanup(faulthandler.cancel_dump_traceback_later)

    def until(self, what: str, holds: Callable[[], Any]) -> None:
        end = time.monotonic() + LONG
        while not holds():
            self.assertLess(time.monotonic(), end, what)
            time.sleep(0.002)

    def assert_rejected(self, kind: nape.Rejection, call: Callable[[], Any]) -> nape.Rejected:
        with self.assertRaises(nape.Rejected) as raised:
            call()
        self.assertIs(raised.exception.kind, kind)
        return raised.exception


@unittest.skipUnless(PEER, "NAPE_TEST_PEER is not set: run `cargo test --test python`")
class PeerTest(Test):
    """With a program in Rust that listens."""

    peer: Peer

    @classmethod
    def setUpClass(cls) -> None:
        cls.peer = Peer()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.peer.end()


class Peer:
    """The program in Rust, listening."""

    def __init__(self, side: str = "head", address: str = "unix", token: bool = False) -> None:
        self.directory = tempfile.TemporaryDirectory()
        path = pathlib.Path(self.directory.name)
        words = [PEER, "listen", side, f"unix:{path}/peer.sock" if address == "unix" else address]
        if token:
            words.append(f"{path}/token")
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        assert self.address, "it does not listen"
        self.token = nape.Token.read(path / "token") if token else None

    def end(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(LONG)
        self.process.stdout.close()
        self.directory.cleanup()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(LONG)


NO_TIMES = [
    ("5", TypeError), (datetime.timedelta(seconds=5), TypeError), (decimal.Decimal(5), TypeError), ([1], TypeError),
    (math.nan, ValueError),
]  # fmt: skip
"""What is no number of seconds, and how that is told."""


GREETING = b"".join(
    [
        nape._frame(nape._Kind.HELLO, 0, 0, (0, 0), nape._HELLO.pack(b"NAPE", 0, 2, 0, 1, 1, 1, bytes(16)) + b"\0"),
        nape._frame(nape._Kind.READY, 0, 0, (0, 0), b""),
    ]
)
"""What a Head says first, for tests that are the other side themselves."""


def call_frame(id: int, path: bytes, kind: nape._Kind = nape._Kind.CALL, arguments: bytes = b"") -> bytes:
    """A call or an event of the other side."""
    head = b"" if kind is nape._Kind.EVENT else nape._CALL_HEAD.pack(0, nape._ALL_ONES, 0)
    return nape._frame(kind, 0, id, (0, 0), head + bytes([len(path)]) + path + arguments)


BYE = nape._frame(nape._Kind.BYE, 0, 0, (0, 0), b"\0\0")


def nothing_left(test: unittest.TestCase) -> Callable[[], None]:
    """Call it before and the result after: no thread and no descriptor may be left."""

    def snapshot() -> Tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    before = snapshot()

    def check() -> None:
        end = time.monotonic() + LONG
        while snapshot() > before and time.monotonic() < end:
            time.sleep(0.005)
        test.assertLessEqual(snapshot(), before, [thread.name for thread in threading.enumerate()])

    return check
