"""Signal handlers and the collector, which run in the middle of anything that a link does."""

from __future__ import annotations

import contextlib
import gc
import selectors
import signal
import socket
import sys
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple
from unittest import mock

from .support import GREETING, LONG, Test, nape

K = nape._Kind


class EchoPeer(threading.Thread):
    """Answers each call of `a.b` with 7 until the other side has gone, and notes what comes."""

    def __init__(self, limits: nape.Limits = nape.Limits(grace=0.5)) -> None:
        super().__init__(daemon=True)
        ours, self.socket = socket.socketpair()
        self.socket.sendall(GREETING)
        self.ids: List[int] = []
        self.broken = False
        self.start()
        self.link = nape.Link(ours, nape.Side.NECK, nape._NO_TOKENS, limits, [])
        self.link._wait_open(LONG)

    def run(self) -> None:
        data, read = bytearray(), (0, 0)
        while True:
            try:
                came = self.socket.recv(1 << 16)
            except OSError:
                came = b""
            if not came:
                return self.socket.close()
            data += came
            answer = b""
            while len(data) >= 4 and len(data) >= (size := int.from_bytes(data[:4], "little") + 4):
                _, kind, _, _, id, *_ = nape._HEADER.unpack_from(data)
                is_echo = b"\3a.b" in data[:size]
                del data[:size]
                self.broken |= not 1 <= kind <= 17
                if kind not in (K.HELLO, K.READY, K.CREDIT, K.GO_AWAY, K.BYE):
                    read = (read[0] + 1, read[1] + size)
                if kind == K.CALL and is_echo:
                    self.ids.append(id)
                    answer += nape._frame(K.REPLY, 0, id, read, b"7")
            with contextlib.suppress(OSError):
                self.socket.sendall(answer or nape._frame(K.CREDIT, 0, 0, read, b""))


def interrupted(act: Callable[[], Any], at: int, handler: Callable[[], Any]) -> Tuple[bool, Any]:
    """Runs it, and the handler at its step of this number, where Python would run that of a signal. Says whether it had
    so many steps, and what came of it."""
    n_steps = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal n_steps
        if event in ("call", "c_return") and frame.f_code.co_filename == nape.__file__:
            n_steps += 1
            if n_steps == at:
                handler()

    sys.setprofile(count)
    try:
        outcome = act()
    except BaseException as error:
        outcome = error
    finally:
        sys.setprofile(None)
    return n_steps >= at, outcome


def cut_within(names: Set[str], act: Callable[[], Any], at: int) -> bool:
    """Runs it, and raises an interrupt before the instruction of this number in functions of the client of these names
    or where one begins or ends a `with`: Python 3.9 may do so before almost any. Says whether there were so many."""
    n_steps = 0

    def count(frame: Any, event: str, argument: Any) -> Any:
        nonlocal n_steps
        is_with = frame.f_code.co_name in ("__enter__", "__exit__")
        code = (frame.f_back if is_with else frame).f_code
        if code.co_filename != nape.__file__ or code.co_name not in names:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            n_steps += 1
            if n_steps == at:
                raise Interrupt
        return count

    before = sys.gettrace()
    # Python 3.12 asks for it as it begins.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(count)
    try:
        act()
    except Interrupt:
        pass
    finally:
        sys.settrace(before)
    return n_steps >= at


def call_back(link: nape.Link) -> nape.Pending:
    pending = link.start("a.b", timeout=0)
    pending.wait()
    pending.then(lambda pending: None)
    return pending


USES: List[Callable[[nape.Link], Any]] = [
    lambda link: link.call("a.b", timeout=LONG), call_back, lambda link: link.serve(nape.Api("py")),
]  # fmt: skip


class Inside(Test):
    """What such code may do to the very link that is at work below it."""

    def peer(self) -> EchoPeer:
        peer = EchoPeer()
        self.addCleanup(peer.link.close)
        return peer

    def test_p_1_a_signal_handler_ends_what_its_thread_is_inside_of(self) -> None:
        link = self.peer().link
        machine, raised = link._machine, []
        pending, items, up = link.start("no.end"), link.stream("no.end"), link.duplex("no.end")

        def handle(*_: object) -> None:
            asks = (lambda: link.fire("a.b"), lambda: link.call("a.b"), lambda: next(items))
            waits = (pending.wait, pending.result, items.wait, link.wait, lambda: link.shut_down(LONG))
            for use in (*asks, *waits):
                with contextlib.suppress(nape.Misuse):
                    use()
                    raised.append(use)
            for end in (pending.cancel, items.close, up.end, up.incoming.close, up.cancel, link.close):
                end()
            raised.append("done")

        fire = machine.fire

        def signalled(path: str, body: bytes) -> Any:
            signal.raise_signal(signal.SIGUSR1)
            return fire(path, body)

        before = signal.signal(signal.SIGUSR1, handle)
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        machine.fire = signalled  # type: ignore[method-assign]
        link.fire("a.b")
        self.assertEqual(raised, ["done"])
        self.assertTrue(link.wait(LONG))
        for each in (pending, up._pending, items._pending):
            assert each is not None
            self.assertTrue(each.wait(LONG))

    def test_p_1_the_collector_ends_what_its_thread_is_inside_of(self) -> None:
        link = self.peer().link
        kept: List[Any] = []

        def lines() -> Iterator[int]:
            with link.stream("no.end", timeout=None) as items:
                kept.append(items._pending)
                yield 0
                yield from items

        class Owner:
            def __init__(self) -> None:
                self.lines, self.me = lines(), self
                next(self.lines)

        feed = link._machine.feed

        def collecting(data: bytes, now: float) -> None:
            gc.collect()
            feed(data, now)

        # Else the collector may come earlier.
        gc.disable()
        self.addCleanup(gc.enable)
        link._machine.feed = collecting  # type: ignore[method-assign]
        Owner()
        pending, kept[:] = kept[0], []
        link.fire("a.b")
        self.assertTrue(pending.wait(LONG))
        self.assertEqual(link.call("a.b", timeout=LONG), 7)

    def reading(self, peer: Callable[[], nape.Link]) -> Tuple[nape.Link, Callable[[Callable[[], None]], None]]:
        """A link, and what runs a finalizer on its reader when that is about to sleep, as any allocation there may."""
        finalizers: List[Callable[[], None]] = []

        class Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
            def select(self, timeout: Optional[float] = None) -> Any:
                while finalizers:
                    finalizers.pop()()
                return super().select(timeout)

        with mock.patch.object(selectors, "DefaultSelector", Selector):
            link = peer()
        self.addCleanup(link.close)

        def run(finalizer: Callable[[], None]) -> None:
            finalizers.append(finalizer)
            link._wake()

        return link, run

    def mute(self) -> nape.Link:
        """To a peer that says nothing, which would wake the reader."""
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        theirs.sendall(GREETING)
        link = nape.Link(ours, nape.Side.NECK, nape._NO_TOKENS, nape.Limits(grace=0.5, heartbeat=None), [])
        link._wait_open(LONG)
        return link

    def test_p_1_a_finalizer_on_the_thread_that_reads_does_not_wait_there(self) -> None:
        peers: List[EchoPeer] = []
        link, run = self.reading(lambda: (peers.append(EchoPeer()), peers[0].link)[1])
        pending, items = link.start("no.end", timeout=None), link.stream("no.end", timeout=None)
        up, done = link.upload("no.end", timeout=None), link.start("a.b", timeout=LONG)
        self.assertTrue(done.wait(LONG))
        waits: List[Callable[[], Any]] = [
            lambda: link.call("a.b", timeout=1), lambda: link.call("a.b", timeout=None), lambda: pending.wait(1),
            pending.result, lambda: next(items), items.wait, lambda: up.send(1), up.finish, link.wait,
            lambda: link.shut_down(1),
        ]  # fmt: skip
        refused, started, looked = [], [], []

        def finalize() -> None:
            looked.append((pending.wait(0), link.wait(0)))
            for wait in waits:
                try:
                    wait()
                except nape.Misuse as error:
                    refused.append(error)
            link.fire("a.b")
            self.assertEqual(done.result(), 7)
            for end in (pending.cancel, items.close, up.cancel):
                end()
            started.append(link.start("a.b", timeout=LONG))

        run(finalize)
        self.until("the finalizer has run", lambda: started)
        self.assertEqual(len(refused), len(waits))
        self.assertEqual(looked, [(False, False)], "who does not wait is not refused")
        self.assertEqual(started[0].result(), 7)
        for each in (pending, up._pending):
            self.assertTrue(each.wait(LONG))
        self.assertEqual(link.call("a.b", timeout=LONG), 7)
        self.assertEqual(len(peers[0].ids), 3, "a call that is refused does not leave")
        run(link.close)
        self.assertTrue(link.wait(LONG))

    def test_p_1_the_reader_does_not_sleep_over_what_a_finalizer_has_asked_of_it(self) -> None:
        link, run = self.reading(self.mute)
        started: List[nape.Pending] = []
        run(lambda: started.append(link.start("no.end", timeout=0.1)))
        self.until("the finalizer has run", lambda: started)
        self.assertTrue(started[0].wait(LONG / 3))
        run(link.close)
        self.assertTrue(link.wait(LONG / 3))

    def test_p_1_a_finalizer_does_not_wait_where_a_thread_takes_its_next_job(self) -> None:
        link = self.peer().link
        pending, change, ended = link.start("no.end", timeout=None), link._callbacks._change, threading.Event()
        wait, served = change.wait, []

        def finalizing(timeout: Optional[float] = None) -> bool:
            for use in (lambda: link.start("a.b").then(lambda pending: None), lambda: link.call("a.b", timeout=1)):
                with contextlib.suppress(nape.Misuse):
                    use()
                    served.append(use)
            pending.cancel()
            ended.set()
            return wait(timeout)

        change.wait = finalizing  # type: ignore[method-assign]
        call_back(link)
        self.assertTrue(ended.wait(LONG / 3))
        self.assertEqual(served, [])
        self.assertTrue(pending.wait(LONG))
        self.assertEqual(link.call("a.b", timeout=LONG), 7)

    def test_p_1_closing_in_a_signal_handler_hangs_nowhere_and_waits_for_nothing_that_it_has_interrupted(self) -> None:
        for act in USES:
            at, more = 1, True
            while more:
                link = EchoPeer(nape.Limits(grace=LONG)).link
                stuck, items = link.start("no.end", timeout=None), link.stream("no.end", timeout=None)
                took: List[float] = []

                def ends() -> None:
                    items.close()  # noqa: B023
                    began = time.monotonic()
                    link.close()  # noqa: B023
                    took.append(time.monotonic() - began)  # noqa: B023

                more, outcome = interrupted(lambda: act(link), at, ends)  # noqa: B023
                if more:
                    good = (nape.Closed, nape.Cancelled, nape.Pending)
                    self.assertTrue(outcome in (7, None) or isinstance(outcome, good), (at, outcome))
                    self.assertLess(took[0], LONG / 3, at)
                    self.assertTrue(link.wait(LONG), at)
                    self.assertTrue(stuck.wait(LONG), at)
                link.close()
                at += 1
            self.assertGreater(at, 10)

    def test_p_1_a_call_in_a_signal_handler_is_answered_or_refused_and_does_not_wait_for_what_it_has_interrupted(self) -> None:
        for act in USES:
            link, at, more, n_refused = self.peer().link, 1, True, 0
            while more:

                def calls() -> None:
                    nonlocal n_refused
                    try:
                        self.assertEqual(link.call("a.b", timeout=LONG / 3), 7)  # noqa: B023
                    except nape.Misuse:
                        n_refused += 1

                more, outcome = interrupted(lambda: act(link), at, calls)  # noqa: B023
                self.assertTrue(outcome in (7, None) or isinstance(outcome, nape.Pending), (at, outcome))
                at += 1
            self.assertGreater(n_refused, 0)
            self.assertIsNone(link.close_reason)


class Interrupt(BaseException):
    """As KeyboardInterrupt."""


class Within(Test):
    def test_p_1_what_is_raised_within_a_part_of_another_leaves_that_its_lock(self) -> None:
        lock, held = threading.Condition(), []

        def fails() -> None:
            raise Interrupt

        def outer() -> None:
            with self.assertRaises(Interrupt):
                nape._locked(lock, fails)
            held.append(lock._is_owned())  # type: ignore[attr-defined]

        nape._locked(lock, outer)
        held.append(lock._is_owned())  # type: ignore[attr-defined]
        self.assertEqual(held, [True, False])


class CutOff(Test):
    """What a signal handler raises goes to who is there, and no half of an action is left behind."""

    def cut(self, name: str, act: Callable[[nape.Link], Any], kind: Any) -> None:
        at, more, n_broken = 1, True, 0
        # By Python itself: in a finalizer, or in a generator that is closed.
        swallowed: List[Any] = []
        hook, sys.unraisablehook = sys.unraisablehook, lambda told: swallowed.append(told.exc_type)
        self.addCleanup(setattr, sys, "unraisablehook", hook)
        while more:
            peer = EchoPeer()
            link = peer.link
            stuck, items = link.start("no.end", timeout=None), link.stream("no.end", timeout=None)
            # Else the reader may act first, and this thread leaves to it what it would do itself.
            self.until("the reader sleeps", lambda: link._machine._under_way() == (0, 0) and not link._acting)  # noqa: B023
            error = kind()

            def fail() -> None:
                raise error  # noqa: B023

            with self.subTest(name, at=at):
                more, outcome = interrupted(lambda: act(link), at, fail)  # noqa: B023
                if more and kind not in swallowed:
                    self.assertIs(outcome, error)
                swallowed.clear()
                with contextlib.suppress(nape.Closed):
                    self.assertEqual(link.call("a.b", timeout=LONG), 7)
                if link.close_reason is not None:
                    n_broken += link.close_reason.kind is nape.CloseKind.BROKEN
                    self.assertTrue(stuck.wait(LONG))
                    self.assertTrue(link.wait(LONG))
                    with contextlib.suppress(nape.Closed):
                        list(items)
                link.close()
                self.assertTrue(stuck.wait(LONG))
                peer.join(LONG)
                self.assertEqual((peer.is_alive(), peer.broken), (False, False))
                self.assertEqual(len(peer.ids), len(set(peer.ids)), peer.ids)
            at += 1
        self.assertGreater(n_broken, 0)

    def test_p_1_an_interrupt_amid_an_action_ends_the_link_rather_than_half_of_it(self) -> None:
        for kind in (Interrupt, TimeoutError):
            self.cut("call", lambda link: link.call("a.b", timeout=LONG), kind)
            self.cut("start in vain", lambda link: link.start("a.b", timeout=0).wait(LONG), kind)
            self.cut("fire", lambda link: link.fire("a.b"), kind)
            self.cut("cancel", lambda link: link.start("no.end").cancel(), kind)
            self.cut("stream", lambda link: link.stream("no.end").close(), kind)
            self.cut("close", lambda link: link.close(), kind)

    def test_p_1_an_interrupt_leaves_nothing_locked_and_a_thread_inside_of_nothing(self) -> None:
        names = {"enter", "_locked", "_with", "_within", "submit", "_submit", "put"}
        acts: List[Callable[[nape.Link], Any]] = [lambda link: link.fire("a.b"), call_back]
        for act in acts:
            at, more = 1, True
            while more:
                link, called = EchoPeer().link, threading.Event()
                with self.subTest(at=at):
                    more = cut_within(names, lambda: act(link), at)  # noqa: B023
                    try:
                        self.assertEqual(link.call("a.b", timeout=LONG / 3), 7)
                        # More than there are threads for, should one be lost.
                        for _ in range(3):
                            link.start("a.b").then(lambda pending: called.set())  # noqa: B023
                        self.assertTrue(called.wait(LONG / 3))
                    except nape.Closed:
                        self.assertTrue(link.wait(LONG))
                    link.close()
                    self.assertTrue(link._ended.is_set())
                at += 1
            self.assertGreater(at, 50)

    def test_an_interrupt_leaves_no_thread_that_takes_a_place_and_does_not_run(self) -> None:
        at, more = 1, True
        while more:
            workers, done = nape._Workers("test", 1), threading.Event()

            def fail() -> None:
                raise Interrupt

            def steps() -> None:
                workers.submit(int)  # noqa: B023

            more, _ = interrupted(steps, at, fail)
            self.assertTrue(workers.submit(done.set))
            self.assertTrue(done.wait(LONG), at)
            workers.close(LONG)
            at += 1
