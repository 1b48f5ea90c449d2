"""Against a peer that is made of bytes, and in a process that was forked from the one with the link."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import math
import os
import selectors
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
import warnings
from typing import Any, Callable, Dict, List, Set, Tuple
from unittest import mock

from .support import BYE, GREETING, LONG, NO_TIMES, PeerTest, Test, call_frame, nape, nothing_left


class Alone(Test):
    """Against a peer that is made of bytes."""

    def meet(
        self, api: nape.Api = nape.Api("none"), limits: nape.Limits = nape.Limits(grace=0.5)
    ) -> Tuple[nape.Link, socket.socket]:
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        theirs.sendall(GREETING)
        link = nape.Link(ours, nape.Side.NECK, nape._NO_TOKENS, limits, [api])
        self.addCleanup(link.close)
        link._wait_open(LONG)
        return link, theirs

    def test_p_3_events_that_come_with_the_goodbye_are_handled(self) -> None:
        api = nape.Api("py")
        came: List[Any] = []
        gate = threading.Event()

        @api.handle("note")
        def note(cx: nape.Context, value: Any) -> None:
            gate.wait(LONG)
            came.append(value)

        link, peer = self.meet(api, nape.Limits(workers=2))
        events = [call_frame(n, b"py.note", nape._Kind.EVENT, b"%d" % n) for n in range(1, 21)]
        peer.sendall(b"".join(events) + BYE)
        self.until("it is over", lambda: link.close_reason)
        gate.set()
        self.until("all are handled", lambda: len(came) == 20)
        self.assertEqual(sorted(came), list(range(1, 21)))


    def test_what_handles_the_log_may_use_the_link(self) -> None:
        link, peer = self.meet()
        told: List[Any] = []

        class Ship(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                with contextlib.suppress(nape.Closed):
                    link.fire("log.line", record.getMessage())
                    # Its answer has to be read meanwhile.
                    told.append(link.call("log.full", timeout=None))

        log, level = logging.getLogger("nape"), logging.getLogger("nape").level
        ship = Ship()
        log.addHandler(ship)
        log.setLevel(logging.DEBUG)
        self.addCleanup(log.removeHandler, ship)
        self.addCleanup(log.setLevel, level)
        for n in range(1, 91):
            peer.sendall(call_frame(n, b"no.where", nape._Kind.EVENT))
        reads: Dict[int, List[int]] = {}
        while not reads.get(nape._Kind.CALL):
            size, kind, _, _, id, _, _ = nape._HEADER.unpack(peer.recv(nape._HEADER.size, socket.MSG_WAITALL))
            peer.recv(size + 4 - nape._HEADER.size, socket.MSG_WAITALL)
            reads.setdefault(kind, []).append(id)
        self.assertTrue(reads[nape._Kind.EVENT])
        self.assertLessEqual(len(link._machine._notes), nape._MOST_NOTES)
        peer.sendall(nape._frame(nape._Kind.REPLY, 0, reads[nape._Kind.CALL][0], (0, 0), b"7"))
        self.until("it is answered", lambda: told)
        self.assertEqual(told, [7])
        log.removeHandler(ship)

    def test_what_handles_the_log_keeps_no_end_of_a_link_from_being_told(self) -> None:
        gate = threading.Event()

        class Stuck(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                gate.wait(LONG)
                written.append(record)

        written: List[logging.LogRecord] = []
        stuck = Stuck()
        logging.getLogger("nape").addHandler(stuck)
        self.addCleanup(logging.getLogger("nape").removeHandler, stuck)
        self.addCleanup(gate.set)
        link, peer = self.meet()
        pending = link.start("a.b", timeout=None)
        peer.sendall(GREETING)
        with self.assertRaises(nape.Closed):
            pending.result()
        self.assertEqual(written, [])


    def test_what_one_waits_for_is_done_whatever_comes_before_it(self) -> None:
        for error in [RuntimeError, KeyboardInterrupt]:
            link, peer = self.meet()
            pending = [link.start("a.b", timeout=None) for _ in range(5)]
            first = pending[2]
            end, raised = first._end, []

            def fail(call: Any) -> None:
                if not raised:
                    raised.append(1)
                    raise error
                end(call)

            first._end = fail  # type: ignore[method-assign]
            with self.assertRaises(error):
                link.close()
            for each in pending:
                self.assertTrue(each.wait(LONG))
            self.assertEqual(raised, [1])

    def test_where_no_thread_can_be_started_all_calls_end(self) -> None:
        link, peer = self.meet()
        pending = [link.start("a.b", timeout=None) for _ in range(5)]
        for each in pending:
            each.then(print)
        start = threading.Thread.start
        threading.Thread.start = refuse  # type: ignore[method-assign]
        try:
            peer.sendall(BYE)
            for each in pending:
                self.assertTrue(each.wait(LONG))
        finally:
            threading.Thread.start = start  # type: ignore[method-assign]

    def test_p_1_a_call_for_which_no_thread_can_be_started_is_refused(self) -> None:
        api = nape.Api("py")
        api.handle("none")(lambda cx, value: None)
        link, peer = self.meet(api)
        with mock.patch.object(threading.Thread, "start", refuse):
            peer.sendall(call_frame(1, b"py.none"))
            kind = 0
            while kind != nape._Kind.FAULT:
                size, kind, *_ = nape._HEADER.unpack(peer.recv(nape._HEADER.size, socket.MSG_WAITALL))
                record = peer.recv(size + 4 - nape._HEADER.size, socket.MSG_WAITALL)
        self.assertEqual((record[:2], link._machine.served), (b"\3\0", {}))

    def test_p_1_the_end_of_a_link_is_told_while_a_thread_of_it_is_about_to_start(self) -> None:
        link, peer = self.meet()
        starting = threading.Thread(target=print)
        starting._ident = 1  # type: ignore[attr-defined]
        link._callbacks._threads.add(starting)
        peer.sendall(BYE)
        self.assertTrue(link.wait(LONG))

    def test_what_the_system_has_no_more_of_is_an_error_of_the_start_and_leaves_nothing(self) -> None:
        def none(*_: Any, **named: Any) -> Any:
            raise OSError(errno.EMFILE, "Too many open files")

        with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as door:
            door.bind(f"{directory}/door")
            door.listen()
            check = nothing_left(self)
            for of, name, gone, text in [
                (socket, "socket", none, "open files"), (socket, "socketpair", none, "open files"),
                (selectors, "DefaultSelector", none, "open files"), (threading.Thread, "start", refuse, "new thread"),
            ]:  # fmt: skip
                with self.subTest(name), mock.patch.object(of, name, gone):
                    with self.assertRaisesRegex(nape.StartError, text):
                        nape.connect(f"unix:{directory}/door")
                if name in ("socket", "start"):
                    with self.subTest(name, over="asyncio"):
                        asyncio.run(self.starts_nothing(f"unix:{directory}/door", text, of, name, gone))
            check()

    async def starts_nothing(self, address: str, text: str, *gone: Any) -> None:
        with mock.patch.object(*gone), self.assertRaisesRegex(nape.StartError, text):
            await nape.connect_async(address)

    def test_a_duplex_is_there_as_long_as_its_items_are(self) -> None:
        link, peer = self.meet()
        items = iter(link.duplex("a.b"))
        gc.collect()
        (call,) = link._machine.pending.values()
        peer.sendall(nape._frame(nape._Kind.QUOTA, 0, call.id, (0, 0), nape._QUOTA.pack(1, 1)))
        peer.sendall(nape._frame(nape._Kind.ITEMS, 0, call.id, (0, 0), b"\1\0\0\0" + b"7"))
        self.assertEqual(next(items), 7)

    def test_p_3_threads_that_share_the_items_of_a_stream_lose_none_and_go_on_to_its_end(self) -> None:
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(1e-6)
        for _ in range(10):
            link, peer = self.meet()
            items, came = link.stream("a.b", timeout=None), []
            (call,) = link._machine.pending.values()
            threads = [threading.Thread(target=lambda: came.extend(items)) for _ in range(3)]  # noqa: B023
            for thread in threads:
                thread.start()
            for n in range(30):
                item = b"\x02\0\0\0" + b"%02d" % (n + 10)
                peer.sendall(nape._frame(nape._Kind.ITEMS, 0, call.id, (0, 0), item))
                self.until("it is taken", lambda: call.inflow.taken[0] == n + 1)  # noqa: B023
            self.assertTrue(all(thread.is_alive() for thread in threads))
            peer.sendall(nape._frame(nape._Kind.REPLY, 0, call.id, (0, 0), b"null"))
            for thread in threads:
                thread.join(LONG)
            self.assertEqual(sorted(came), list(range(10, 40)))
            peer.close()

    def test_who_comes_to_a_socket_with_a_full_line_waits_for_a_place(self) -> None:
        with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as door:
            door.bind(f"{directory}/door")
            door.listen(0)
            first = socket.socket(socket.AF_UNIX)
            first.connect(f"{directory}/door")
            limits = nape.Limits(start_timeout=0.1, grace=0.5)
            began = time.monotonic()
            with self.assertRaises(nape.StartError):
                nape.connect(f"unix:{directory}/door", limits=limits)
            self.assertGreaterEqual(time.monotonic() - began, 0.1)

            def make_room() -> None:
                turned_away.wait(LONG)
                first.close()
                for _ in range(2):
                    met.append(door.accept()[0])
                    with contextlib.suppress(BrokenPipeError):
                        met[-1].sendall(GREETING)

            met: List[socket.socket] = []
            turned_away = threading.Event()
            thread = threading.Thread(target=make_room)
            thread.start()
            # It asks while the line is full.
            sleep = time.sleep
            with mock.patch.object(time, "sleep", lambda left: (turned_away.set(), sleep(left))):
                link = nape.connect(f"unix:{directory}/door")
            thread.join(LONG)
            for each in met:
                each.close()
            link.close()

    def test_closing_in_a_callback_waits_for_nothing(self) -> None:
        link, peer = self.meet(limits=nape.Limits(grace=LONG))
        closed = threading.Event()
        link.start("a.b", timeout=0).then(lambda pending: (link.close(), closed.set()))
        self.assertTrue(closed.wait(LONG / 3))
        peer.close()
        self.assertTrue(link.wait(LONG / 3))

    def test_two_that_shut_down_both_wait_for_what_is_under_way(self) -> None:
        link, peer = self.meet()
        items, ended = link.stream("a.b", timeout=None), []
        threads = [threading.Thread(target=lambda: ended.append(link.shut_down(LONG))) for _ in range(2)]
        for n, thread in enumerate(threads):
            thread.start()
            self.until("it waits", lambda: len(link._idle._waiters) == n + 1)  # noqa: B023
        items.close()
        for thread in threads:
            thread.join(LONG / 3)
        self.assertEqual(ended, [True, True])

    def test_a_call_that_expires_while_it_waits_for_a_thread_is_refused_as_expired(self) -> None:
        api, ran, begun, gate = nape.Api("py"), [], threading.Event(), threading.Event()
        self.addCleanup(gate.set)

        @api.handle("slow")
        def slow(cx: nape.Context, value: Any) -> None:
            ran.append(value)
            begun.set()
            gate.wait(LONG)

        link, peer = self.meet(api, nape.Limits(workers=1, grace=0.5))
        peer.sendall(call_frame(1, b"py.slow", arguments=b"1"))
        self.assertTrue(begun.wait(LONG))
        body = nape._CALL_HEAD.pack(0, 50_000, 0) + b"\x07py.slow2"
        peer.sendall(nape._frame(nape._Kind.CALL, 0, 2, (0, 0), body))
        self.until("it is there", lambda: 2 in link._machine.served)
        due = link._machine.served[2].deadline
        self.until("it is over time", lambda: due <= time.monotonic())
        gate.set()
        peer.settimeout(LONG)
        id = kind = 0
        while id != 2:
            size, kind, _, _, id, _, _ = nape._HEADER.unpack(peer.recv(nape._HEADER.size, socket.MSG_WAITALL))
            record = peer.recv(size + 4 - nape._HEADER.size, socket.MSG_WAITALL)
        self.assertEqual((kind, record[:2], ran), (nape._Kind.FAULT, b"\7\0", [1]))

    def test_the_goodbye_leaves_behind_what_fills_the_socket(self) -> None:
        link, peer = self.meet()
        link._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        pending = [link.start("a.b", "x" * 60_000) for _ in range(3)]
        self.until("it is full", lambda: link._blocked and link._out)
        peer.sendall(nape._frame(nape._Kind.PONG, 0x80, 0, (0, 0), b""))
        for each in pending:
            each.wait(LONG)
        peer.settimeout(LONG)
        data = b""
        while chunk := peer.recv(1 << 16):
            data += chunk
        kinds = []
        while data:
            size, kind, *_ = nape._HEADER.unpack_from(data)
            kinds.append(kind)
            last, data = data[nape._HEADER.size : size + 4], data[size + 4 :]
        self.assertEqual((kinds[-1], last), (nape._Kind.BYE, b"\x0a\0"))

    def test_p_17_the_reader_sleeps_while_the_other_side_reads_nothing(self) -> None:
        link, peer = self.meet()
        link._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        wake, read_once = link._wake, link._read_once
        wakers: Set[threading.Thread] = set()
        turns: List[int] = []
        link._wake = lambda: (wakers.add(threading.current_thread()), wake())  # type: ignore
        link._read_once = lambda selector: (turns.append(1), read_once(selector))  # type: ignore
        for _ in range(10):
            link.fire("a.b", "x" * 60_000)
        self.until("it is full", lambda: link._blocked and link._out)
        # Each of them has it turn once.
        for n in range(1, 21):
            peer.sendall(nape._frame(nape._Kind.PING, 0, n, (0, 0), b""))
            self.until("it is taken", lambda: len(link._machine._control) == n)  # noqa: B023
        self.assertNotIn(link._reader, wakers)
        self.assertLess(len(turns), 40)
        # And it goes on when the other side does.
        kinds: List[int] = []
        read = (0, 0)
        while nape._Kind.PONG not in kinds or kinds.count(nape._Kind.EVENT) < 10:
            size, kind, *_ = nape._HEADER.unpack(peer.recv(nape._HEADER.size, socket.MSG_WAITALL))
            peer.recv(size + 4 - nape._HEADER.size, socket.MSG_WAITALL)
            if kind not in nape._FREE:
                read = (read[0] + 1, read[1] + size + 4)
                peer.sendall(nape._frame(nape._Kind.CREDIT, 0, 0, read, b""))
            kinds.append(kind)

    def test_p_3_a_timeout_that_is_none_is_told_to_its_caller_alone(self) -> None:
        link, peer = self.meet()
        other = link.start("a.b", timeout=None)
        for timeout, error in NO_TIMES:
            for begin in (link.call, link.start, link.stream, link.upload, link.duplex):
                with self.subTest(begin.__name__, timeout=timeout), self.assertRaises(error):
                    begin("a.b", timeout=timeout)
        self.assertEqual((link.close_reason, other.done()), (None, False))
        self.assertEqual(list(link._machine.pending.values()), [other._call])

    def test_p_3_limits_that_are_none_are_found_where_they_are_made(self) -> None:
        for timeout, error in NO_TIMES:
            for name in ("timeout", "start_timeout", "grace", "in_flight"):
                with self.subTest(name, value=timeout), self.assertRaises(error):
                    nape.Limits(**{name: timeout})
            with self.assertRaises(error):
                nape.Limits(heartbeat=(1.0, timeout))
        with self.assertRaises(OverflowError):
            nape.Limits(grace=10**400)
        for name in ("stream_items", "stream_bytes"):
            for value in (0, -1, (1 << 30) + 1, 1 << 33, 1e6, None):
                with self.subTest(name, value=value), self.assertRaises((TypeError, ValueError)):
                    nape.Limits(**{name: value})
        most = nape.Limits(stream_items=1 << 30, stream_bytes=1 << 30, timeout=None, served_calls=2**70, grace=0)
        link, peer = self.meet(limits=most)
        link.stream("a.b")
        self.assertIsNone(link.close_reason)

    def test_p_1_times_without_end_end_with_what_they_are_for(self) -> None:
        api, ran = nape.Api("py"), []
        api.handle("note")(lambda cx, value: ran.append(value))
        forever = nape.Limits(timeout=math.inf, start_timeout=math.inf, grace=math.inf, heartbeat=(math.inf, math.inf))
        check = nothing_left(self)
        for n in range(1, 4):
            link, peer = self.meet(api, forever)
            peer.sendall(call_frame(1, b"py.note", nape._Kind.EVENT, b"1"))
            self.until("it is handled", lambda: len(ran) == n)  # noqa: B023
            pending = link.start("a.b")
            peer.close()
            self.assertTrue(link.wait(LONG))
            self.assertTrue(pending.wait(LONG))
            self.assertIs(link.close_reason.kind, nape.CloseKind.GONE)
            link.close()
        del pending, link, peer
        check()

    def test_a_start_timeout_without_end_is_none(self) -> None:
        with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as door:
            door.bind(f"{directory}/door")
            door.listen()
            limits = nape.Limits(start_timeout=math.inf)
            met: List[socket.socket] = []
            host = threading.Thread(target=lambda: met.append(door.accept()[0]) or met[0].sendall(GREETING))
            host.start()
            link = nape.connect(f"unix:{directory}/door", limits=limits)
            self.assertTrue(link.is_open)
            host.join(LONG)
            met[0].close()
            link.close()

    def test_p_1_whatever_fails_as_a_link_ends_nothing_is_left_open(self) -> None:
        check = nothing_left(self)
        link, peer = self.meet()
        link._handlers.close = refuse  # type: ignore
        hook, threading.excepthook = threading.excepthook, lambda told: None
        self.addCleanup(setattr, threading, "excepthook", hook)
        peer.close()
        self.assertTrue(link.wait(LONG))
        link._reader.join(LONG)
        check()

    def test_p_3_where_the_stack_ends_a_call_fails_and_the_link_goes_on(self) -> None:
        link, peer = self.meet()
        other = link.start("a.b", timeout=None)

        def deep(n: int, use: Callable[[], Any]) -> Any:
            return deep(n - 1, use) if n else use()

        uses: List[Callable[[], Any]] = [
            lambda: link.fire("a.b"), lambda: link.start("a.b"), lambda: link.stream("a.b").close(),
            lambda: link.start("a.b", timeout=0).then(lambda pending: None),
        ]  # fmt: skip
        for use in uses:
            n_failed = 0
            for n in range(sys.getrecursionlimit() - 200, sys.getrecursionlimit()):
                try:
                    deep(n, use)
                except (RecursionError, nape.Misuse):
                    n_failed += 1
            self.assertGreater(n_failed, 0)
            self.assertLess(n_failed, 200)
            self.assertEqual((link.close_reason, other.done()), (None, False))

    def test_closing_a_stream_wakes_who_waits_for_its_next_item(self) -> None:
        link, peer = self.meet()
        chat = link.duplex("a.b", timeout=None)
        for items in [chat.incoming, link.stream("a.b", timeout=None)]:
            ended = threading.Event()
            waiting = threading.Thread(target=lambda: list(items) or ended.set())  # noqa: B023
            waiting.start()
            self.until("it waits", lambda: items._inflow.signal._waiters)  # noqa: B023
            items.close()
            self.assertTrue(ended.wait(LONG))
            waiting.join()


def refuse(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


class Forks(PeerTest):
    """A process that is forked from the one that has a link takes no part in it."""

    def forked(self, link: nape.Link, child: Callable[[], None]) -> None:
        """Runs it in a fork that was made while another thread has the lock of the link."""
        with link._lock, warnings.catch_warnings():
            # That it has threads is what this is about.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    child()
                    status = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(status)
        ended: List[int] = []

        def has_ended() -> bool:
            ended.extend(os.waitpid(pid, os.WNOHANG))
            return ended[-2] == pid

        try:
            self.until("the fork ends", has_ended)
        except AssertionError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        self.assertEqual(ended[-1], 0)

    def test_p_32_a_fork_neither_uses_nor_ends_what_its_parent_has(self) -> None:
        with nape.connect(self.peer.address) as link:
            slow, echo = link.start("t.slow", 60_000), link.start("t.echo", 1)
            echo.wait()
            items, up = link.stream("s.endless", 10), link.upload("s.sum", 0)
            next(items)
            uses: List[Callable[[], Any]] = [
                lambda: link.call("t.echo", 1, timeout=2.0), lambda: link.fire("t.note", 1),
                lambda: link.stream("s.count"), lambda: link.serve(nape.Api("more")), link.wait,
                lambda: link.shut_down(0),
                slow.wait, slow.result, lambda: slow.then(print), lambda: next(items), lambda: up.send(1), up.finish,
            ]  # fmt: skip

            def child() -> None:
                nonlocal slow
                for use in uses:
                    with self.assertRaises(nape.Misuse):
                        use()
                assert echo.result() == 1
                uses.clear()
                with contextlib.suppress(SystemExit), link, items, up:
                    raise SystemExit
                slow.cancel()
                del slow

            self.forked(link, child)
            for n in range(100):
                self.assertEqual(link.call("t.echo", n), n)
            up.send(2)
            self.assertEqual(up.finish(), 2)
            next(items)
            self.assertFalse(slow.done())
