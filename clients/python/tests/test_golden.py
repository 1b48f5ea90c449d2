"""The frames of `tests/golden`, byte by byte, both ways; and the machine against a peer that breaks rules."""

from __future__ import annotations

import dataclasses
import json
import random
import struct
import sys
import threading
from typing import Any, Dict, List, Optional, Tuple
from unittest import mock

from . import support
from .support import GOLDEN, Test, nape

READ = (3, 300)
TOKEN = bytes(range(16))
HEADS = 7
NECKS = 1 << 63 | 9
CALL = struct.pack("<QQI", 0, 2_000_000, 0) + b"\x0bthumbs.make"
ARGUMENTS = [300, "né", True]
BINARY = b"\xfb\x2c\x01\x03n\xc3\xa9\x01\x01"
K = nape._Kind


def golden(name: str) -> bytes:
    lines = (GOLDEN / f"{name}.hex").read_text().splitlines()
    return bytes.fromhex("".join(line for line in lines if not line.startswith("#")))


def hello(side: int, codec: int) -> bytes:
    return nape._HELLO.pack(b"NAPE", side, codec, 0, 1, 1, 1, TOKEN) + b"\x050.1.0"


def item(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def fault(value: bytes) -> bytes:
    return nape._write_record(33, 0, 0, ["no room for 12", "shop::NoRoom"], value)


JSON = nape._encode(ARGUMENTS)
FRAMES: Dict[str, Tuple[int, int, int, bytes]] = {
    "bye": (K.BYE, 0, 0, b"\0\0"),
    "bye_window_ignored": (K.BYE, 0, 0, b"\x11\0"),
    "call_binary": (K.CALL, 0, HEADS, CALL + BINARY),
    "call_binary_cut_1": (K.CALL, nape._MORE, HEADS, (CALL + BINARY)[:20]),
    "call_binary_cut_2": (K.CALL, nape._CONTINUES, HEADS, (CALL + BINARY)[20:]),
    "call_json": (K.CALL, 0, HEADS, CALL + JSON),
    "call_with_parent_and_shape": (
        K.CALL, 0, HEADS,
        struct.pack("<QQIBQ", NECKS, 2_000_000, 1, 0, 0x0123456789ABCDEF) + b"\x0bthumbs.make",
    ),
    "cancel": (K.CANCEL, 0, HEADS, b""),
    "credit": (K.CREDIT, 0, 0, b""),
    "end_of_items": (K.END, 0, HEADS, b""),
    "event_binary": (K.EVENT, 0, HEADS, b"\x0ethumbs.qualityP"),
    "event_json": (K.EVENT, 0, HEADS, b"\x0ethumbs.quality" + nape._encode(80)),
    "fault_no_handler": (K.FAULT, 0, HEADS, nape._write_record(1, 0, 0, ["thumbs.make"])),
    "fault_typed_binary": (K.FAULT, 0, HEADS, fault(b"\x0c")),
    "fault_typed_json": (K.FAULT, 0, HEADS, fault(nape._encode({"wanted": 12}))),
    "go_away": (K.GO_AWAY, 0, 0, b""),
    "hello_head": (K.HELLO, 0, 0, hello(0, 1)),
    "hello_neck_json": (K.HELLO, 0, 0, hello(1, 2)),
    "items_binary": (K.ITEMS, 0, HEADS, item(b"\x01") + item(b"\xfb\x2c\x01")),
    "items_json": (K.ITEMS, 0, HEADS, item(nape._encode(1)) + item(nape._encode(300))),
    "open_binary": (K.OPEN, 0, HEADS, nape._OPEN_HEAD.pack(2, 64, 1 << 20) + CALL + BINARY),
    "open_json": (K.OPEN, 0, HEADS, nape._OPEN_HEAD.pack(2, 64, 1 << 20) + CALL + JSON),
    "ping": (K.PING, 0, 5, b""),
    "pong": (K.PONG, 0, 5, b""),
    "quota": (K.QUOTA, 0, NECKS, nape._QUOTA.pack(96, 2 << 20)),
    "ready": (K.READY, 0, 0, b""),
    "reply_binary": (K.REPLY, 0, HEADS, BINARY),
    "reply_json": (K.REPLY, 0, HEADS, JSON),
    "stop": (K.STOP, 0, HEADS, b""),
}


class Signal(nape._Signal):
    def set(self) -> None:
        pass

    def clear(self) -> None:
        pass


class Machine:
    """One side without a wire, and what it was asked to serve."""

    def __init__(self, side: int = 1, limits: nape.Limits = nape.Limits(), open: bool = True) -> None:
        self.served: List[Tuple[Any, bytes]] = []
        served = self.served
        self.it = nape._Machine(
            nape.Side(side), (TOKEN, TOKEN), limits, 0.0, Signal, lambda s, _, arguments: served.append((s, arguments))
        )
        api = nape.Api("thumbs")
        for add, name in [(api.handle, "make"), (api.handle, "quality"), (api.stream, "scan"), (api.upload, "take")]:
            add(name)(lambda *_: None)
        self.it.handlers = dict(api._handlers)
        self.peer_read = (0, 0)
        self.peer_sent = (0, 0)
        if open:
            self.sent(read=False)
            self.take(K.HELLO, 0, 0, hello(1 - side, 2))
            self.take(K.READY, 0, 0)

    def take(self, kind: int, flags: int = 0, id: int = 0, body: bytes = b"", now: float = 0.0) -> None:
        self.feed(nape._frame(kind, flags, id, self.peer_read, body), now)

    def feed(self, data: bytes, now: float = 0.0) -> None:
        self.it.feed(data, now)
        self.run()

    def run(self) -> None:
        for job in self.it.take_todo():
            job()

    def sent(self, read: bool = True, now: float = 0.0) -> List[Tuple[int, int, int, bytes]]:
        """The frames that it sends now, read by the peer or not."""
        frames = []
        while True:
            data = self.it.take_output(now)
            if not data:
                self.run()
                return frames
            while data:
                length = int.from_bytes(data[:4], "little") + 4
                _, kind, flags, _, id, *_ = nape._HEADER.unpack_from(data)
                frames.append((kind, flags, id, data[24:length]))
                if kind not in nape._FREE and read:
                    self.peer_read = (self.peer_read[0] + 1, self.peer_read[1] + length)
                data = data[length:]
            if read and self.it.greeted and not self.it.closed:
                self.take(K.CREDIT)

    @property
    def rule(self) -> Optional[int]:
        """The rule that the peer has broken."""
        reason = self.it.reason
        return reason.code if reason is not None and reason.kind is nape.CloseKind.PROTOCOL else None


class Golden(Test):
    def test_every_file_is_written_as_it_stands(self) -> None:
        self.assertEqual({path.stem for path in GOLDEN.glob("*.hex")}, set(FRAMES))
        for name, (kind, flags, id, body) in FRAMES.items():
            with self.subTest(name):
                self.assertEqual(nape._frame(kind, flags, id, READ, body).hex(), golden(name).hex())

    def neck(self) -> Machine:
        """A Neck that has sent and had read what the frames acknowledge."""
        machine = Machine(1)
        machine.it._sent = READ
        return machine

    def head(self) -> Machine:
        """A Head whose calls up to 7 have left, of which 7 is asked for."""
        machine = Machine(0)
        machine.it._counter = 6
        machine.it.start("thumbs.make", b"null", 0.0, 5.0, nape._Way.NONE, None, None)
        machine.sent(read=False)
        machine.it._sent = READ
        return machine

    def test_greetings_are_read(self) -> None:
        for name, side in [("hello_head", nape.Side.NECK), ("hello_neck_json", nape.Side.HEAD)]:
            nape._check_hello(golden(name)[24:], side, TOKEN)
            with self.assertRaises(nape._Violation) as raised:
                nape._check_hello(golden(name)[24:], nape.Side(1 - side), TOKEN)
            self.assertEqual(raised.exception.code, 1)

    def test_who_has_filters_is_refused(self) -> None:
        for name, side in [("hello_head", nape.Side.NECK), ("hello_neck", nape.Side.HEAD)]:
            body = bytearray(golden(f"../golden_filters/{name}")[24:])
            body[12] |= 1  # It would take JSON.
            with self.assertRaises(nape._Violation) as raised:
                nape._check_hello(bytes(body), side, TOKEN)
            self.assertEqual(raised.exception.code, 22)

    def test_calls_and_events_are_read(self) -> None:
        for name, left, attempt, body in [
            ("call_binary", 2.0, 0, BINARY),
            ("call_json", 2.0, 0, JSON),
            ("call_with_parent_and_shape", 2.0, 1, b""),
            ("event_binary", None, 0, b"P"),
            ("event_json", None, 0, b"80"),
        ]:
            with self.subTest(name):
                machine = self.neck()
                machine.feed(golden(name))
                self.assertIsNone(machine.it.reason)
                ((served, arguments),) = machine.served
                self.assertEqual((served.id, served.deadline, served.attempt), (HEADS, left, attempt))
                self.assertEqual(arguments, body)
                self.assertEqual(served.path, "thumbs.quality" if name.startswith("event") else "thumbs.make")

    def test_what_is_cut_is_joined(self) -> None:
        machine = self.neck()
        machine.feed(golden("call_binary_cut_1"))
        self.assertEqual(machine.served, [])
        machine.feed(golden("call_binary_cut_2"))
        self.assertEqual(machine.served[0][1], BINARY)
        self.assertEqual(machine.it._inbox_bytes, 0)

    def test_streams_are_read(self) -> None:
        machine = self.neck()
        machine.it.handlers["thumbs.make"] = machine.it.handlers["thumbs.scan"]
        machine.feed(golden("open_json"))
        ((served, arguments),) = machine.served
        self.assertEqual((served.way, served.outflow.quota, arguments), (nape._Way.TAKES, (64, 1 << 20), JSON))
        machine.feed(golden("stop"))
        self.assertIsInstance(served.outflow.over, nape.Cancelled)

        machine = self.neck()
        machine.it.handlers["thumbs.make"] = machine.it.handlers["thumbs.take"]
        machine.feed(golden("open_json").replace(b"\x02\x40\0\0\0", b"\x01\0\0\0\0", 1))
        ((served, _),) = machine.served
        machine.it.accept(served)
        machine.feed(golden("items_json"))
        machine.feed(golden("end_of_items"))
        self.assertEqual((list(served.inflow.queue), served.inflow.over), ([b"1", b"300"], True))

    def test_answers_are_read(self) -> None:
        for name, check in [
            ("reply_json", lambda call: self.assertEqual(nape._outcome(call, False), ARGUMENTS)),
            ("fault_no_handler", lambda call: self.assertIs(call.error.kind, nape.Rejection.NO_HANDLER)),
            ("fault_typed_json", lambda call: self.assertEqual(call.error.value, {"wanted": 12})),
        ]:
            with self.subTest(name):
                machine = self.head()
                call = machine.it.pending[HEADS]
                machine.feed(golden(name))
                self.assertTrue(call.is_done)
                check(call)

    def test_the_rest_is_read(self) -> None:
        machine = self.neck()
        machine.feed(golden("ping"))
        self.assertIn((K.PONG, 0, 5, b""), machine.sent(read=False))
        machine.feed(golden("credit") + golden("pong") + golden("go_away"))
        self.assertTrue(machine.it.peer_going_away)
        machine.feed(golden("call_json") + golden("cancel"))
        self.assertTrue(machine.served[0][0].cancelled)
        machine.feed(golden("bye"))
        self.assertIs(machine.it.reason.kind, nape.CloseKind.PEER)
        machine = self.neck()
        machine.feed(golden("bye_window_ignored"))
        self.assertEqual(machine.rule, 17)

    def test_a_quota_is_read(self) -> None:
        machine = Machine(1)
        machine.it._counter = 8
        call = machine.it.start("thumbs.take", b"null", 0.0, 5.0, nape._Way.SENDS, None, None)
        machine.sent(read=False)
        machine.it._sent = READ
        machine.feed(golden("quota"))
        self.assertEqual(call.outflow.quota, (96, 2 << 20))
        self.assertIsNone(call.deadline)


class Rules(Test):
    """What must be refused is, by its number, and costs the link and nothing else."""

    def broken(self, machine: Machine, rule: int) -> None:
        self.assertEqual(machine.rule, rule, machine.it.reason)
        last = machine.sent()[-1]
        self.assertEqual((last[0], last[3]), (K.BYE, struct.pack("<H", rule)))

    def test_frames(self) -> None:
        for rule, data in [
            (9, b"\x13\0\0\0"),
            (8, struct.pack("<I", 61_437)),
            (10, nape._frame(K.PING, 8, 0, (0, 0), b"")),
            (10, b"\x14\0\0\0\x0b\0\x01\0" + bytes(16)),
            (7, nape._frame(18, 0, 0, (0, 0), b"")),
            (16, nape._frame(K.PING, nape._MORE, 0, (0, 0), b"")),
            (17, nape._frame(K.PING, 0, 0, (1, 24), b"")),
            (4, nape._frame(K.HELLO, 0, 0, (0, 0), hello(0, 2))),
            (19, nape._frame(K.READY, 0, 0, (0, 0), b"")),
            (11, nape._frame(K.BYE, 0, 0, (0, 0), b"\0")),
            (11, nape._frame(K.CALL, 0, 7, (0, 0), CALL[:-3])),
            (12, nape._frame(K.CALL, 0, 7, (0, 0), CALL[:-11] + b"thumbs..ake")),
            (12, nape._frame(K.CALL, 0, 7, (0, 0), CALL[:-11] + b"thumbs.m\xffke")),
            (13, nape._frame(K.CALL, 0, 0, (0, 0), CALL)),
            (13, nape._frame(K.CALL, 0, 1 << 63 | 7, (0, 0), CALL)),
            (13, nape._frame(K.CALL, 0, 7, (0, 0), struct.pack("<Q", 1 << 63) + CALL[8:])),
            (14, nape._frame(K.CALL, 0, 7, (0, 0), CALL) * 2),
            (15, nape._frame(K.REPLY, 0, 1 << 63 | 1, (0, 0), b"1")),
            (15, nape._frame(K.REPLY, 0, 7, (0, 0), b"1")),
            (15, nape._frame(K.ITEMS, 0, 7, (0, 0), item(b"1"))),
            (16, nape._frame(K.CALL, nape._CONTINUES, 7, (0, 0), CALL)),
            (14, nape._frame(K.CALL, nape._MORE, 7, (0, 0), CALL) * 2),
            (18, nape._frame(K.CALL, nape._MORE, 7, (0, 0), b"")),
            (11, nape._frame(K.OPEN, 0, 7, (0, 0), bytes(9) + CALL)),
            (19, nape._frame(K.CALL, 0, 7, (0, 0), CALL) + nape._frame(K.ITEMS, 0, 7, (0, 0), item(b"1"))),
            (17, nape._frame(K.PONG, 0, 0, (0, 0), b"") * 97),
        ]:
            with self.subTest(rule=rule, data=data[:40]):
                machine = Machine(1)
                if rule == 17 and len(data) > 100:
                    # Nothing tells what was read meanwhile.
                    machine.it._control.clear()
                machine.feed(data)
                self.broken(machine, rule)

    def test_a_frame_that_may_be_skipped_is(self) -> None:
        machine = Machine(1)
        machine.feed(nape._frame(200, nape._OPTIONAL, 0, (9, 9), b"later"))
        self.assertIsNone(machine.it.reason)

    def test_greetings(self) -> None:
        good = hello(0, 2)
        for rule, body in [
            (1, b"GET / HTTP/1.1"),
            (3, good[:20]),
            (1, b"NAPE\1" + good[5:]),
            (3, good[:8] + b"\2\0\1\0" + good[12:]),
            (2, good[:8] + b"\2\0\3\0" + good[12:]),
            (10, good[:6] + b"\1\0" + good[8:]),
            (3, good[:5] + b"\7" + good[6:]),
            (5, good[:16] + bytes(16) + good[32:]),
            (3, good[:-1]),
            (21, good[:5] + b"\1" + good[6:12] + bytes(4) + good[16:]),
        ]:
            with self.subTest(rule=rule):
                machine = Machine(1, open=False)
                machine.take(K.HELLO, 0, 0, body)
                self.broken(machine, rule)
        for rule, data in [(1, b"HTTP/1.1 400 Bad Request"), (3, nape._frame(K.PING, 0, 0, (0, 0), b""))]:
            machine = Machine(1, open=False)
            machine.feed(data)
            self.broken(machine, rule)

    def test_messages_have_a_limit(self) -> None:
        machine = Machine(1, nape.Limits(message_limit=1000))
        machine.take(K.CALL, nape._MORE, 7, CALL + bytes(900))
        self.assertIsNone(machine.it.reason)
        machine.take(K.CALL, nape._CONTINUES, 7, bytes(100))
        self.broken(machine, 8)
        machine = Machine(1)
        for id in range(1, 66):
            machine.take(K.CALL, nape._MORE, id, CALL)
            machine.it._told = machine.it._read
        self.broken(machine, 18)

    def test_a_call_for_which_there_is_no_room_is_refused_and_the_rest_goes_on(self) -> None:
        machine = Machine(1, nape.Limits(message_limit=1000))
        for id in range(1, 6):
            machine.take(K.CALL, nape._MORE, id, CALL + bytes(850))
        (frame,) = [frame for frame in machine.sent() if frame[0] == K.FAULT]
        self.assertEqual((frame[2], frame[3][:2]), (5, b"\3\0"))
        for id in range(1, 6):
            machine.take(K.CALL, nape._CONTINUES | nape._MORE, id, b"1")
            machine.take(K.CALL, nape._CONTINUES, id, b"1")
        self.assertIsNone(machine.it.reason)
        self.assertEqual([served.id for served, _ in machine.served], [1, 2, 3, 4])
        self.assertEqual((machine.it._inbox, machine.it._inbox_bytes), ({}, 0))

    def test_p_17_the_answer_of_what_was_refused_gives_no_place_to_a_call_of_the_same_id(self) -> None:
        limits = nape.Limits(message_limit=1000, served_calls=3)
        full = [(nape._MORE, id, CALL + bytes(850)) for id in range(1, 5)]
        nobody = CALL[:-11] + b"nobodys.own"
        for fill, refused in [([], [(0, nobody)]), (full, [(nape._MORE, bytes(900)), (nape._CONTINUES, b"1")])]:
            machine = Machine(1, limits)
            for flags, id, body in fill:
                machine.take(K.CALL, flags, id, body)
            for id in range(11, 51):
                # All at once: nothing of it is answered meanwhile.
                frames = [*((flags, id, body) for flags, body in refused), (0, id, CALL)]
                machine.feed(b"".join(nape._frame(K.CALL, flags, id, machine.peer_read, body) for flags, id, body in frames))
                machine.sent()
            self.assertIsNone(machine.it.reason)
            self.assertEqual((len(machine.served), len(machine.it.served)), (3, 3))
            for served, _ in machine.served:
                machine.it.answer(served, K.REPLY, b"1")
            machine.sent()
            self.assertEqual((machine.it.served, machine.it._answer_bytes), ({}, 0))

    def test_p_17_messages_for_which_there_is_no_room_are_paid_for(self) -> None:
        for kind in (K.CALL, K.OPEN, K.EVENT):
            machine = Machine(1, nape.Limits(message_limit=1000))
            for id in range(1, 5):
                machine.take(K.CALL, nape._MORE, id, CALL + bytes(850))
            for id in range(11, nape._BUDGET + 20):
                machine.take(kind, nape._MORE, id, bytes(900))
                machine.take(kind, nape._CONTINUES, id, b"1")
                machine.sent()
            self.assertEqual(machine.rule, 18)

    def test_a_parent_gives_no_call_a_place(self) -> None:
        machine = Machine(1, nape.Limits(served_calls=3))
        ours = machine.it.start("a.b", b"1", 0.0, None, nape._Way.NONE, None, None)
        for id in range(1, 6):
            machine.take(K.CALL, 0, id, struct.pack("<Q", ours.id) + CALL[8:])
        self.assertEqual((len(machine.served), machine.served[0][0].descends), (3, True))
        self.assertEqual([frame[3][:2] for frame in machine.sent() if frame[0] == K.FAULT], [b"\3\0"] * 2)

    def test_the_arguments_that_wait_are_counted(self) -> None:
        machine = Machine(1, nape.Limits(received_bytes=1000))
        # One message has room, however large it is.
        machine.take(K.CALL, 0, 1, CALL + bytes(5000))
        machine.take(K.CALL, 0, 2, CALL + bytes(1))
        self.assertEqual(len(machine.served), 1)
        machine.it.answer(machine.served.pop()[0], K.REPLY, b"1")
        for id in range(3, 6):
            machine.take(K.CALL, 0, id, CALL + bytes(400))
            machine.take(K.EVENT, 0, id + 10, b"\x0ethumbs.quality" + bytes(400))
        self.assertEqual((len(machine.served), machine.it.n_unhandled), (2, 2))
        self.assertEqual([frame[3][:2] for frame in machine.sent() if frame[0] == K.FAULT], [b"\3\0"] * 3)
        for served, _ in machine.served:
            machine.it.answer(served, K.REPLY, b"1")
        self.assertEqual(machine.it._served_bytes, 0)

    def test_who_acknowledges_nothing_lets_nothing_grow(self) -> None:
        # Faults for what has no room in unfinished messages.
        machine = Machine(1, nape.Limits(message_limit=1000, served_calls=3))
        for id in range(1, 5):
            machine.take(K.CALL, nape._MORE, id, CALL + bytes(900))
        for id in range(5, 2100):
            machine.it._told = machine.it._read
            machine.take(K.CALL, nape._MORE, id, CALL + bytes(900))
            machine.take(K.CANCEL, 0, id)
        self.assertEqual(machine.rule, 18)
        # What is said of the items of streams that are given up.
        machine = Machine(1)
        for id in range(1, 100):
            machine.it._told = machine.it._read
            machine.take(K.OPEN, 0, id, nape._OPEN_HEAD.pack(1, 0, 0) + CALL[:-11] + b"thumbs.take")
            machine.it.accept(machine.served[-1][0])
            machine.take(K.CANCEL, 0, id)
        self.assertIsNone(machine.it.reason)
        self.assertEqual(len(machine.it._control), 0)

    def test_a_flood_ends_the_link(self) -> None:
        machine = Machine(1)
        for _ in range(nape._BUDGET + 10):
            machine.take(K.CREDIT)
        self.broken(machine, 18)

    def test_what_follows_from_calls_is_no_flood(self) -> None:
        machine = Machine(1)
        for id in range(1, nape._BUDGET + 10):
            machine.take(K.CALL, 0, id, CALL + b"1")
            machine.take(K.CANCEL, 0, id)
            machine.it.answer(machine.served.pop()[0], K.REPLY, b"1")
            machine.sent()
        self.assertIsNone(machine.it.reason)
        # Nor what was on its way when a stream ended: each item that was granted, and the end.
        machine.it._budget = 100.0
        for _ in range(10):
            call = machine.it.start("a.b", b"1", 0.0, None, nape._Way.TAKES, None, None)
            machine.sent()
            machine.it.cancel(call, nape.Cancelled())
            for _ in range(machine.it.limits.stream_items):
                machine.take(K.ITEMS, 0, call.id, b"\1\0\0\0x")
            machine.take(K.END, 0, call.id)
            machine.sent()
        self.assertIsNone(machine.it.reason)
        # What follows from nothing still is one.
        machine.it._earned = 0
        for _ in range(nape._BUDGET + 10):
            machine.take(K.CREDIT)
        self.broken(machine, 18)

    def test_a_frame_that_stops_half_way_ends_the_link(self) -> None:
        machine = Machine(1)
        machine.feed(b"\x14\0", 1.0)
        self.assertEqual(machine.it.due(), 31.0)
        machine.it.tick(31.0)
        self.assertEqual(machine.rule, 20)

    def test_no_bytes_break_the_machine(self) -> None:
        """Golden frames with bytes changed, and in every cutting: it goes on, or ends by a rule."""
        random.seed(4711)
        frames = [golden(name) for name in sorted(FRAMES)]
        for round in range(3000):
            machine = Machine(round % 2)
            machine.it._sent = READ
            data = bytearray(b"".join(random.choices(frames, k=4)))
            for _ in range(round % 4):
                data[random.randrange(len(data))] = random.randrange(256)
            while data:
                n = random.randrange(1, 80)
                machine.feed(bytes(data[:n]))
                del data[:n]
            machine.sent(read=False)
            if machine.it.closed:
                self.assertIn(machine.it.reason.kind, (nape.CloseKind.PROTOCOL, nape.CloseKind.PEER, nape.CloseKind.TURNED_AWAY))
                self.assertEqual((machine.it.pending, machine.it.take_output(0.0)), ({}, b""))


class Records(Test):
    def test_errors_come_back_as_they_went(self) -> None:
        reason = nape.CloseReason(nape.CloseKind.PROTOCOL, "why", 17)
        for error in [
            nape.TimedOut("a.b", 1.5, nape.Executed.NO),
            nape.Cancelled(),
            nape.Closed(reason, nape.Executed.MAYBE),
            nape.NoAnswer(),
            nape.Poisonous("a.b", 3, nape.CloseReason(nape.CloseKind.GONE, "gone")),
            *(nape.Rejected(kind, "a.b") for kind in nape.Rejection if kind.value < 9 and kind.value != 4),
            nape.Rejected(nape.Rejection.TOO_LARGE, size=5, limit=4),
            nape.Fault("text", type_name="T", chain=["x", "y"]),
            nape.Fault("text", value=[1, {"a": None}]),
            nape.Fault("text", kind=nape.FaultKind.PANICKED),
            nape.Fault("text", kind=nape.FaultKind.CALL, call_error=nape.NoAnswer()),
        ]:
            with self.subTest(repr(error)):
                back = nape._error_of(nape._read_record(nape._record_of_error(error)))
                self.assertIs(type(back), type(error))

                def fields(of: nape.CallError) -> Dict[str, Any]:
                    read = {name: getattr(of, name) for name in ("kind", "value") if isinstance(of, nape.Fault)}
                    left_out = ("_arrived", "_call_error", "detail")
                    return {**read, **{key: value for key, value in vars(of).items() if key not in left_out}}

                self.assertEqual(fields(back), fields(error))

    def test_p_17_the_value_of_a_fault_is_read_by_who_asks_for_it(self) -> None:
        machine = Machine(1)
        values: Dict[bytes, Any] = {b"[1]": [1], b"no JSON": None, b"": None}
        inner = nape._write_record(33, 0, 0, ["in"], b'"deep"')
        calls = [machine.it.start("a.b", b"1", 0.0, None, nape._Way.NONE, None, None) for _ in range(4)]
        machine.sent()
        with mock.patch.object(nape, "_decode", side_effect=AssertionError), mock.patch.object(nape, "_inner_record", None):
            for call, body in zip(calls, values):
                machine.take(K.FAULT, 0, call.id, nape._write_record(33, 0, 0, ["text"], body))
            machine.take(K.FAULT, 0, calls[3].id, nape._write_record(35, 0, 0, ["text"], inner))
            self.assertEqual([str(call.error) for call in calls], ["text"] * 4)
        for call, (body, value) in zip(calls, values.items()):
            kind = nape.FaultKind.ERROR if body == b"no JSON" else nape.FaultKind.TYPED
            self.assertEqual((call.error.kind, call.error.value), (kind, value))
        self.assertEqual((calls[3].error.call_error.value, calls[3].error.value), ("deep", None))

    def test_p_17_threads_that_read_a_fault_at_a_time_read_the_same(self) -> None:
        whole, no_value = nape._encode({"wanted": 12}), nape._write_record(49)
        inner = nape._write_record(35, 0, 0, ["text"], no_value)
        for record, kind, value, error in [
            (fault(whole), nape.FaultKind.TYPED, {"wanted": 12}, None), (fault(no_value), nape.FaultKind.ERROR, None, None),
            (inner, nape.FaultKind.CALL, None, nape.Cancelled),
        ]:  # fmt: skip
            at, more = 1, True
            while more:
                told = nape._error_of(nape._read_record(record))
                n_lines = 0

                def trace(frame: Any, event: str, argument: Any) -> Any:
                    nonlocal n_lines
                    if frame.f_code is not nape.Fault._read.__code__:
                        return None
                    n_lines += event == "line"
                    if event == "line" and n_lines == at:  # noqa: B023
                        # Another thread does it all meanwhile.
                        thread = threading.Thread(target=lambda: told.kind)  # noqa: B023
                        thread.start()
                        thread.join(support.LONG)
                    return trace

                before = sys.gettrace()
                sys.settrace(trace)
                try:
                    told.kind
                finally:
                    sys.settrace(before)
                self.assertEqual((told.kind, told.value, type(told.call_error)), (kind, value, error or type(None)), at)
                more, at = n_lines >= at, at + 1
            self.assertGreater(at, 4)

    def test_p_18_whatever_a_handler_raises_has_a_record(self) -> None:
        class Mute(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no text")

        @dataclasses.dataclass
        class Room:
            wanted: int

            def __getattribute__(self, name: str) -> Any:
                if name == "wanted":
                    raise RuntimeError("no room")
                return super().__getattribute__(name)

        served = nape._Served(Machine().it, 1, "a.b", False)
        cause = ValueError("why")
        cause.__cause__ = Mute()
        for error, text in [
            (nape.Fault(ValueError("why")), "why"),  # type: ignore[arg-type]
            (nape.Fault(Mute()), "a Mute that has no text"),  # type: ignore[arg-type]
            (nape.Fault("why", type_name=3, chain=[Mute()]), "why"),  # type: ignore[arg-type, list-item]
            (nape.Fault("why", value=Room(1)), "why"),
            (nape.BadArguments(cause, Mute()), ""),  # type: ignore[arg-type]
            (Mute(), "a Mute that has no text"),
            (cause, "why"),
            (nape.TimedOut("a.b", float("inf"), nape.Executed.NO), "nothing can be told"),
        ]:
            with self.subTest(type(error)):
                kind, body = nape._failure(served, error)
                record = nape._read_record(body)
                self.assertIs(kind, K.FAULT)
                self.assertIn(text, record.text(0))

    def test_long_texts_are_cut_between_characters(self) -> None:
        record = nape._read_record(nape._write_record(32, 0, 0, ["é" * 4000] * 30))
        self.assertEqual((len(record.texts), record.texts[0]), (18, "é" * 2048))

    def test_a_record_that_is_cut_off_is_refused(self) -> None:
        whole = nape._write_record(2, 0, 0, ["a", "b", "c"])
        for n in range(len(whole)):
            with self.assertRaises(nape._Violation):
                nape._read_record(whole[:n])

    def test_values(self) -> None:
        self.assertEqual(nape._encode(b"\0\xff\x10"), b'"AP8Q"')
        self.assertEqual(nape._decode(b" [1] "), [1])
        self.assertEqual(nape._decode(str(1 << 64).encode()), 1 << 64)
        self.assertIsNone(nape._decode(b""))
        for bad in [float("nan"), {1, 2}, "\ud800", object()]:
            with self.assertRaises(ValueError):
                nape._encode(bad)
        for text in [b"NaN", b"[1] 1", b"\xff", b"\xef\xbb\xbf1", b"[" * 100_000]:
            with self.assertRaises(ValueError):
                nape._decode(text)

    def test_paths(self) -> None:
        for path in ["a", "a.b", "ä.ö", "a" * 255]:
            self.assertTrue(nape._is_path(path), path)
        for path in ["", ".", "a.", "a..b", "a b", "a\n", "a\u2003b", "ä" * 128, "\ud800"]:
            self.assertFalse(nape._is_path(path), path)
