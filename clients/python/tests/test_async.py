"""The same over asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import os
import socket
import tempfile
import threading
import warnings
from typing import Any, AsyncIterator, Awaitable, Callable, List

from .support import BYE, GREETING, LONG, NO_TIMES, Peer, PeerTest, Test, call_frame, nape


class Async(PeerTest):
    def run_async(self, test: Callable[[nape.AsyncLink], Awaitable[None]]) -> None:
        async def run() -> None:
            async with await nape.connect_async(self.peer.address, serve=[self.api()]) as link:
                await asyncio.wait_for(test(link), LONG)
            self.assertIsNotNone(link.close_reason)

        asyncio.run(run())

    def api(self) -> nape.Api:
        self.cancelled, self.closed = threading.Event(), threading.Event()
        self.notes: List[Any] = []
        py = nape.Api("py")

        @py.handle("echo")
        async def echo(cx: nape.Context, value: Any) -> Any:
            return value

        @py.handle("plain")
        def plain(cx: nape.Context, value: Any) -> Any:
            return threading.current_thread().name

        @py.handle("depth")
        async def depth(cx: nape.Context, n: int) -> int:
            return 0 if n == 0 else 1 + await cx.link.call("back.depth", n - 1)

        @py.handle("fail")
        async def fail(cx: nape.Context, value: Any) -> None:
            raise nape.Fault("no room", value={"wanted": 1})

        @py.handle("wait")
        async def wait(cx: nape.Context, value: Any) -> None:
            try:
                await asyncio.sleep(LONG)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise

        @py.handle("note")
        async def note(cx: nape.Context, value: Any) -> None:
            self.notes.append((cx.is_event, value))

        @py.stream("count")
        async def count(cx: nape.Context, to: int) -> AsyncIterator[int]:
            try:
                for n in range(to):
                    yield n
            finally:
                self.closed.set()

        @py.upload("sum")
        async def total(cx: nape.Context, value: Any, items: nape.AsyncIncoming) -> int:
            return sum([item async for item in items])

        @py.duplex("double")
        async def double(
            cx: nape.Context, value: Any, items: nape.AsyncIncoming, out: nape.AsyncOutgoing
        ) -> str:
            async for item in items:
                await out.send(item * 2)
            return "done"

        return py

    def test_calls(self) -> None:
        async def test(link: nape.AsyncLink) -> None:
            self.assertEqual(await link.call("t.add", [2, 3]), 5)
            self.assertEqual(await link.call("t.echo", "x" * (3 << 20)), "x" * (3 << 20))
            answers = await asyncio.gather(*(link.start("t.echo", n) for n in range(1000)))
            self.assertEqual(answers, list(range(1000)))
            with self.assertRaises(nape.Fault) as raised:
                await link.call("t.full", 3)
            self.assertEqual(raised.exception.value, {"wanted": 3})
            with self.assertRaises(nape.Rejected):
                await link.call("t.nowhere")
            with self.assertRaises(nape.TimedOut):
                await link.call("t.slow", 60_000, timeout=0.05)
            with self.assertRaises(nape.Misuse):
                await link.call("a b")

        self.run_async(test)

    def test_a_task_that_is_cancelled_gives_its_call_up(self) -> None:
        async def test(link: nape.AsyncLink) -> None:
            before, begun = await link.call("t.cancelled"), await link.call("t.begun")
            task = asyncio.ensure_future(link.call("t.slow", 60_000))
            while await link.call("t.begun") == begun:
                pass
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            while await link.call("t.cancelled") != before + 1:
                pass
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(link.call("t.slow", 60_000), 0.05)

        self.run_async(test)

    def test_events(self) -> None:
        async def test(link: nape.AsyncLink) -> None:
            await link.call("t.notes")
            for n in range(200):
                link.fire("t.note", n)
            notes: List[Any] = []
            while len(notes) < 200:
                notes += await link.call("t.notes")
            self.assertEqual(sorted(notes), list(range(200)))
            await link.call("back.fire", ["py.note", "x", 100])
            while len(self.notes) < 100:
                await asyncio.sleep(0.001)
            self.assertEqual(set(self.notes), {(True, "x")})

        self.run_async(test)

    def test_serving(self) -> None:
        async def test(link: nape.AsyncLink) -> None:
            async def rust_calls(path: str, value: Any = None, millis: int = 30_000) -> Any:
                return await link.call("back.call", [path, value, millis])

            self.assertEqual(await rust_calls("py.echo", "x" * 200_000), {"ok": "x" * 200_000})
            self.assertIn("nape-handler", (await rust_calls("py.plain"))["ok"])
            self.assertEqual((await rust_calls("py.fail"))["fault"]["typed"], {"wanted": 1})
            self.assertIn("NoHandler", (await rust_calls("py.nowhere"))["detail"])
            self.assertEqual(await link.call("back.depth", 30), 30)
            self.assertEqual(await link.call("back.many", ["py.echo", 1000]), {"ok": 499_500})
            self.assertEqual((await rust_calls("py.wait", None, 1000))["error"], "TimedOut")
            while not self.cancelled.is_set():
                await asyncio.sleep(0.001)

        self.run_async(test)

    def test_streams(self) -> None:
        async def test(link: nape.AsyncLink) -> None:
            self.assertEqual([n async for n in link.stream("s.count", 1000)], list(range(1000)))
            with self.assertRaises(nape.Fault):
                async for _ in link.stream("s.fail", 3):
                    pass
            async with link.stream("s.endless", 10) as items:
                for _ in range(300):
                    await items.__anext__()
            async with link.upload("s.sum", 5) as up:
                for n in range(1000):
                    await up.send(n)
                self.assertEqual(await up.finish(), 499_505)
            async with link.upload("s.three") as up:
                with self.assertRaises(nape.Cancelled):
                    for n in range(100_000):
                        await up.send(1)
                self.assertEqual(await up.finish(), 3)
            async with link.duplex("s.chat", "Ann") as chat:
                async def talk() -> None:
                    for n in range(500):
                        await chat.send(str(n))
                    chat.end()

                task = asyncio.ensure_future(talk())
                self.assertEqual(len([line async for line in chat]), 502)
                await task
                self.assertEqual(await chat.finish(), 500)

        self.run_async(test)

    def test_streams_to_rust(self) -> None:
        async def test(link: nape.AsyncLink) -> None:
            told = await link.call("back.take", ["py.count", 300, 1000])
            self.assertEqual(told, {"ok": [{"ok": n} for n in range(300)]})
            self.closed.clear()
            self.assertEqual(len((await link.call("back.take", ["py.count", 1 << 40, 3]))["ok"]), 3)
            while not self.closed.is_set():
                await asyncio.sleep(0.001)
            self.assertEqual(await link.call("back.give", ["py.sum", list(range(500))]), {"ok": 124_750})
            told = await link.call("back.both", ["py.double", list(range(300))])
            self.assertEqual(told, {"ok": [list(range(0, 600, 2)), "done"]})

        self.run_async(test)

    def test_closing_ends_all(self) -> None:
        async def run() -> None:
            link = await nape.connect_async(self.peer.address)
            pending = [link.start("t.slow", 60_000, timeout=None) for _ in range(20)]
            await link.call("t.echo")
            await link.close()
            for each in pending:
                with self.assertRaises(nape.Closed):
                    await each
            link = await nape.connect_async(self.peer.address)
            last = link.start("t.slow", 50)
            self.assertTrue(await link.shut_down(LONG))
            self.assertEqual(await last, 50)

        asyncio.run(run())

    def test_a_peer_that_is_killed(self) -> None:
        async def run() -> None:
            peer = Peer()
            try:
                link = await nape.connect_async(peer.address)
                pending = [link.start("t.slow", 60_000, timeout=None) for _ in range(20)]
                await link.call("t.echo")
                peer.kill()
                for each in pending:
                    with self.assertRaises(nape.Closed) as raised:
                        await each
                    self.assertIs(raised.exception.reason.kind, nape.CloseKind.GONE)
                await asyncio.wait_for(link.wait(), LONG)
                with self.assertRaises(nape.Closed):
                    await link.call("t.echo")
                await link.close()
            finally:
                peer.end()

        asyncio.run(run())

    def test_who_is_not_there_or_not_right(self) -> None:
        async def run() -> None:
            with self.assertRaises(nape.StartError):
                await nape.connect_async("unix:/nowhere/at/all")
            with self.assertRaises(nape.StartError):
                await nape.connect_async(self.peer.address, side=nape.Side.HEAD)
            with self.assertRaises(nape.StartError):
                await nape.connect_async(self.peer.address, token=nape.Token("11" * 32))
            ours, theirs = socket.socketpair()
            link = nape.AsyncLink(nape.Side.NECK, nape._NO_TOKENS, nape.Limits(start_timeout=0.1), [])
            with self.assertRaises(nape.StartError):
                await link._open(ours, 0.1)
            theirs.close()

        asyncio.run(run())


class Alone(Test):
    """Against a peer that is made of bytes."""

    def run_alone(
        self,
        test: Callable[[nape.AsyncLink, socket.socket], Awaitable[None]],
        api: nape.Api = nape.Api("none"),
        limits: nape.Limits = nape.Limits(grace=0.5),
    ) -> None:
        async def run() -> None:
            ours, theirs = socket.socketpair()
            with theirs:
                theirs.sendall(GREETING)
                link = nape.AsyncLink(nape.Side.NECK, nape._NO_TOKENS, limits, [api])
                await link._open(ours, LONG)
                try:
                    await asyncio.wait_for(test(link, theirs), LONG)
                finally:
                    await asyncio.wait_for(link.close(), LONG)

        asyncio.run(run())

    def test_what_is_given_up_in_the_same_breath_does_not_run(self) -> None:
        api, ran = nape.Api("py"), []

        @api.handle("wait")
        async def wait(cx: nape.Context, value: Any) -> None:
            ran.append(1)
            await asyncio.Future()

        async def test(link: nape.AsyncLink, peer: socket.socket) -> None:
            peer.sendall(call_frame(1, b"py.wait") + nape._frame(nape._Kind.CANCEL, 0, 1, (0, 0), b""))
            peer.sendall(call_frame(2, b"py.wait") + BYE)
            await link.wait()
            await asyncio.sleep(0)
            self.assertEqual((ran, link._machine.served, link._tasks), ([], {}, set()))

        async def test_a_turn_later(link: nape.AsyncLink, peer: socket.socket) -> None:
            link.data_received(call_frame(1, b"py.wait"))
            link.data_received(nape._frame(nape._Kind.CANCEL, 0, 1, (0, 0), b""))
            while link._tasks:
                await asyncio.sleep(0)
            self.assertEqual((ran, link._machine.served), ([], {}))

        self.run_alone(test, api)
        self.run_alone(test_a_turn_later, api)

    def test_p_3_a_timeout_that_is_none_is_told_to_its_caller_alone(self) -> None:
        async def test(link: nape.AsyncLink, peer: socket.socket) -> None:
            other = link.start("a.b", timeout=None)
            for timeout, error in NO_TIMES:
                for begin in (link.start, link.stream, link.upload, link.duplex):
                    with self.subTest(begin.__name__, timeout=timeout), self.assertRaises(error):
                        begin("a.b", timeout=timeout)
            self.assertEqual((link.close_reason, other.done(), len(link._machine.pending)), (None, False, 1))
            other.cancel()

        self.run_alone(test)

    def test_p_1_times_without_end_end_with_what_they_are_for(self) -> None:
        async def test(link: nape.AsyncLink, peer: socket.socket) -> None:
            call = link.start("a.b")
            peer.close()
            await link.wait()
            with self.assertRaises(nape.Closed):
                await call

        inf = math.inf
        self.run_alone(test, limits=nape.Limits(timeout=inf, start_timeout=inf, grace=inf, heartbeat=(inf, inf)))

    def test_p_17_a_plain_handler_takes_the_place_of_a_call_until_it_has_ended(self) -> None:
        api, ran, begun, gate = nape.Api("py"), [], threading.Event(), threading.Event()
        self.addCleanup(gate.set)

        @api.handle("slow")
        def slow(cx: nape.Context, value: Any) -> None:
            ran.append(value)
            begun.set()
            gate.wait(LONG)

        async def test(link: nape.AsyncLink, peer: socket.socket) -> None:
            served = link._machine.served
            link.data_received(call_frame(1, b"py.slow", arguments=b"1"))
            while not begun.is_set():
                await asyncio.sleep(0)
            for id in range(2, 60):
                link.data_received(call_frame(id, b"py.slow", arguments=b"%d" % id))
                if id > 2:
                    link.data_received(nape._frame(nape._Kind.CANCEL, 0, id, (0, 0), b""))
            link.data_received(nape._frame(nape._Kind.CANCEL, 0, 1, (0, 0), b""))
            # What has not begun is let go of, and what runs holds its place.
            self.assertEqual((list(served), len(link._tasks)), ([1, 2], 2))
            gate.set()
            while served:
                await asyncio.sleep(0)
            self.assertEqual((ran, link._tasks), ([1, 2], set()))

        self.run_alone(test, api, nape.Limits(workers=1))

    def test_a_plain_handler_that_calls_back_is_called_back_though_all_threads_are_busy(self) -> None:
        api = nape.Api("py")

        @api.handle("outer")
        def outer(cx: nape.Context, value: Any) -> Any:
            call = cx.link.call("a.b", timeout=LONG)
            return asyncio.run_coroutine_threadsafe(call, cx.link._loop).result()

        @api.handle("inner")
        def inner(cx: nape.Context, value: Any) -> Any:
            return 5

        async def test(link: nape.AsyncLink, peer: socket.socket) -> None:
            link.data_received(call_frame(1, b"py.outer"))
            while not link._machine.pending:
                await asyncio.sleep(0)
            (id,) = link._machine.pending
            path = b"\x08py.inner"
            body = nape._CALL_HEAD.pack(id, nape._ALL_ONES, 0) + path
            link.data_received(nape._frame(nape._Kind.CALL, 0, 2, (0, 0), body))
            while 2 in link._machine.served:
                await asyncio.sleep(0)
            self.assertIn(1, link._machine.served)
            link.data_received(nape._frame(nape._Kind.REPLY, 0, id, (0, 0), b"7"))
            while link._machine.served:
                await asyncio.sleep(0)

        self.run_alone(test, api, nape.Limits(workers=1))

    def test_a_plain_handler_that_is_stuck_keeps_no_program_from_its_end(self) -> None:
        api, begun, gate = nape.Api("py"), threading.Event(), threading.Event()
        self.addCleanup(gate.set)
        threads: List[threading.Thread] = []

        @api.handle("stuck")
        def stuck(cx: nape.Context, value: Any) -> None:
            threads.append(threading.current_thread())
            begun.set()
            gate.wait(LONG)

        async def test(link: nape.AsyncLink, peer: socket.socket) -> None:
            link.data_received(call_frame(1, b"py.stuck"))
            while not begun.is_set():
                await asyncio.sleep(0)

        self.run_alone(test, api, nape.Limits(grace=0.1))
        self.assertFalse(gate.is_set())
        self.assertTrue(threads[0].daemon)

    def test_p_3_events_that_come_with_the_goodbye_are_handled(self) -> None:
        api = nape.Api("py")
        came: List[Any] = []

        @api.handle("note")
        async def note(cx: nape.Context, value: Any) -> None:
            await asyncio.sleep(0)
            came.append(value)

        async def test(link: nape.AsyncLink, peer: socket.socket) -> None:
            events = [call_frame(n, b"py.note", nape._Kind.EVENT, b"%d" % n) for n in range(1, 21)]
            peer.sendall(b"".join(events) + BYE)
            await link.wait()
            await link.close()
            self.assertEqual(sorted(came), list(range(1, 21)))

        self.run_alone(test, api)

    def test_p_32_a_fork_neither_uses_nor_ends_what_its_parent_has(self) -> None:
        async def test(link: nape.AsyncLink, peer: socket.socket) -> None:
            items = link.stream("a.b")
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    for use in (link.start, link.fire, link.stream):
                        with self.assertRaises(nape.Misuse):
                            use("a.b")
                    items.close()
                    del items
                    with self.assertRaises(StopIteration):
                        link.close().send(None)
                    status = 0
                finally:
                    os._exit(status)
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
            await asyncio.sleep(0)
            self.assertEqual((len(link._machine.pending), link.close_reason), (1, None))
            items.close()

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self.run_alone(test)

    def test_a_stream_that_nobody_holds_any_more_is_cancelled(self) -> None:
        async def test(link: nape.AsyncLink, peer: socket.socket) -> None:
            machine = link._machine

            def begin() -> None:
                """The last call has begun, with an item for who takes some."""
                call = list(machine.pending.values())[-1]
                link.data_received(nape._frame(nape._Kind.QUOTA, 0, call.id, (0, 0), nape._QUOTA.pack(1, 1)))
                if call.inflow is not None:
                    link.data_received(nape._frame(nape._Kind.ITEMS, 0, call.id, (0, 0), b"\1\0\0\0" + b"7"))

            async def gone() -> None:
                gc.collect()
                while machine.pending:
                    await asyncio.sleep(0)

            link._loop.call_soon(begin)
            async for item in link.stream("a.b"):
                self.assertEqual(item, 7)
                break
            del item
            await gone()
            up = link.upload("a.b")
            begin()
            del up
            await gone()
            # A duplex is there as long as its items are.
            link._loop.call_soon(begin)
            async for item in link.duplex("a.b"):
                gc.collect()
                await asyncio.sleep(0)
                self.assertEqual(len(machine.pending), 1)
                break
            await gone()
            kinds = set()
            while nape._Kind.CANCEL not in kinds:
                size, kind, *_ = nape._HEADER.unpack(peer.recv(nape._HEADER.size, socket.MSG_WAITALL))
                peer.recv(size + 4 - nape._HEADER.size, socket.MSG_WAITALL)
                kinds.add(kind)

        self.run_alone(test)

    def test_who_gives_up_connecting_leaves_nothing_open(self) -> None:
        async def run() -> None:
            with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as door:
                door.bind(f"{directory}/door")
                door.listen()
                door.settimeout(LONG)
                for limits in (nape.Limits(), nape.Limits(start_timeout=0.05)):
                    with self.assertRaises((asyncio.TimeoutError, nape.StartError)):
                        await asyncio.wait_for(nape.connect_async(f"unix:{directory}/door", limits=limits), 0.2)
                    with door.accept()[0] as met:
                        met.settimeout(LONG)

                        def rest() -> None:
                            while met.recv(1000):  # noqa: B023
                                pass

                        await asyncio.get_running_loop().run_in_executor(None, rest)

        asyncio.run(run())

    def test_closing_a_stream_wakes_who_waits_for_its_next_item(self) -> None:
        async def test(link: nape.AsyncLink, peer: socket.socket) -> None:
            chat = link.duplex("a.b", timeout=None)

            async def take() -> List[Any]:
                return [item async for item in chat]

            task = asyncio.ensure_future(take())
            await asyncio.sleep(0)
            chat.incoming.close()
            self.assertEqual(await task, [])

        self.run_alone(test)

    def test_p_17_a_peer_that_acknowledges_and_reads_nothing_fills_no_memory_and_ends_in_time(self) -> None:
        async def test(link: nape.AsyncLink, peer: socket.socket) -> None:
            pending = [link.start("a.b", "x" * (1 << 20)) for _ in range(20)]
            machine, transport = link._machine, link._transport
            assert transport is not None
            told, most = (-1, -1), 0
            while told != machine._sent:
                told = machine._sent
                peer.sendall(nape._frame(nape._Kind.CREDIT, 0, 0, told, b""))
                while machine._acknowledged != told:
                    await asyncio.sleep(0)
                await asyncio.sleep(0)
                most = max(most, transport.get_write_buffer_size())
            self.assertLess(most, 1 << 20)
            # It goes on once it is read.
            peer.setblocking(False)
            while machine._sent == told:
                with contextlib.suppress(BlockingIOError):
                    peer.recv(1 << 16)
                await asyncio.sleep(0)
            peer.sendall(BYE)
            await link.wait()
            for each in pending:
                with self.assertRaises(nape.Closed):
                    await each

        self.run_alone(test)

    def test_p_1_the_end_of_the_other_side_is_noticed_while_it_reads_nothing(self) -> None:
        async def test(link: nape.AsyncLink, peer: socket.socket) -> None:
            pending = [link.start("a.b", "x" * (1 << 20), timeout=None) for _ in range(5)]
            machine, transport = link._machine, link._transport
            assert transport is not None
            while not transport.get_write_buffer_size():
                peer.sendall(nape._frame(nape._Kind.CREDIT, 0, 0, machine._sent, b""))
                await asyncio.sleep(0)
            peer.shutdown(socket.SHUT_WR)
            for each in pending:
                with self.assertRaises(nape.Closed) as raised:
                    await each
                self.assertIs(raised.exception.reason.kind, nape.CloseKind.GONE)
            await link.wait()

        self.run_alone(test)
