"""What a peer makes this side hold that reads and acknowledges nothing, or less than it asks for."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, AsyncIterator, List

from .support import GREETING, LONG, Test, nape
from .test_golden import CALL, K, Machine

OPEN = CALL[:-11] + b"thumbs.scan"
MANY = nape._OPEN_HEAD.pack(2, 1 << 30, 1 << 30)
SLOW = "x" * 100_000


class Unread(Test):
    """A peer that acknowledges nothing from here on."""

    def machine(self, limits: nape.Limits = nape.Limits()) -> Machine:
        machine = Machine(1, limits)
        self.shut(machine)
        return machine

    def shut(self, machine: Machine) -> None:
        under_way = machine.it._acknowledged
        machine.it._sent = (under_way[0] + nape._WINDOW_FRAMES, under_way[1] + nape._WINDOW_BYTES)

    def open(self, machine: Machine) -> None:
        machine.peer_read = machine.it._sent
        machine.take(K.CREDIT)

    def call(self, machine: Machine, id: int) -> List[Any]:
        """Those that it got to handle of the call."""
        machine.it._told = machine.it._read
        machine.take(K.CALL, 0, id, CALL)
        came = [served for served, _ in machine.served]
        machine.served.clear()
        return came

    def test_p_17_an_answer_of_a_call_that_was_given_up_is_dropped(self) -> None:
        machine = self.machine()
        for id in range(1, 200):
            for served in self.call(machine, id):
                machine.it.answer(served, K.REPLY, bytes(100_000 if id % 2 else 10))
            machine.take(K.CANCEL, 0, id, now=id)
        self.assertIsNone(machine.it.reason)
        self.assertEqual((len(machine.it._slow), len(machine.it._answers), machine.it.served), (0, 0, {}))
        self.assertEqual(machine.it._answer_bytes, 0)

    def test_p_17_answers_that_are_not_read_have_a_limit_of_bytes(self) -> None:
        machine = self.machine(nape.Limits(send_queue_bytes=1_000_000))
        for id in range(1, 200):
            for served in self.call(machine, id):
                machine.it.answer(served, K.REPLY, bytes(100_000))
        self.assertIsNone(machine.it.reason)
        self.assertEqual(len(machine.it._slow), 11)
        self.open(machine)
        refused = [frame for frame in machine.sent() if frame[0] == K.FAULT]
        self.assertEqual({frame[3][:2] for frame in refused}, {b"\3\0"})
        # Once they have left, calls are served again.
        self.assertEqual((machine.it._answer_bytes, len(self.call(machine, 300))), (0, 1))

    def test_p_17_a_call_that_has_waited_is_refused_while_answers_are_not_read(self) -> None:
        machine = self.machine(nape.Limits(send_queue_bytes=1_000_000))
        (first,), (second,) = self.call(machine, 1), self.call(machine, 2)
        self.assertIsNone(machine.it.refusal(second, 0.0))
        machine.it.answer(first, K.REPLY, bytes(1_000_001))
        self.assertEqual((machine.it.refusal(second, 0.0) or b"")[:2], b"\3\0")
        self.assertEqual((machine.it.refusal(second, 2.0) or b"")[:2], b"\7\0")
        machine.take(K.CANCEL, 0, 2)
        self.assertEqual((machine.it.refusal(second, 0.0) or b"")[:2], b"1\0")

    def test_p_17_the_answer_behind_items_counts_until_it_is_given_up(self) -> None:
        machine = self.machine()
        machine.take(K.OPEN, 0, 1, MANY + OPEN)
        ((served, _),) = machine.served
        machine.it.put_item(served.outflow, b"1")
        machine.it.answer(served, K.REPLY, bytes(1000))
        self.assertEqual(machine.it._answer_bytes, 1000)
        machine.take(K.CANCEL, 0, 1)
        self.assertEqual((machine.it._answer_bytes, machine.it.served), (0, {}))

    def test_p_17_items_that_are_not_read_wait_in_a_queue_with_a_limit(self) -> None:
        for limits, size, room in [
            (nape.Limits(stream_items=7), 1, 7), (nape.Limits(stream_bytes=1000), 400, 3),
            (nape.Limits(stream_bytes=1000), 5000, 1),
        ]:  # fmt: skip
            machine = self.machine(limits)
            machine.take(K.OPEN, 0, 1, MANY + OPEN)
            ((served, _),) = machine.served
            woken: List[int] = []
            served.outflow.signal.set = lambda: woken.append(1)  # noqa: B023
            for _ in range(3):
                n = 0
                while n < 100 and machine.it.put_item(served.outflow, bytes(size)):
                    n += 1
                self.assertEqual(n, room)
                woken.clear()
                self.open(machine)
                self.assertEqual(sum(frame[0] == K.ITEMS for frame in machine.sent(read=False)), 1)
                # Whoever waited for room is told of it.
                self.assertTrue(woken)
                self.shut(machine)

    def test_p_17_of_the_quotas_that_cannot_leave_there_is_one_for_each_stream(self) -> None:
        machine = Machine(1)
        calls = [machine.it.start("a.b", b"1", 0.0, None, nape._Way.TAKES, None, None) for _ in range(2)]
        machine.sent(read=False)
        self.shut(machine)
        for _ in range(1000):
            machine.it._told = machine.it._read
            for call in calls:
                machine.take(K.ITEMS, 0, call.id, b"\1\0\0\0" + b"7")
                machine.it.next_item(call.inflow)
        self.assertEqual([entry[0] for entry in machine.it._control], [K.QUOTA, K.QUOTA])
        self.open(machine)
        quotas = [frame for frame in machine.sent() if frame[0] == K.QUOTA]
        totals = {frame[2]: nape._QUOTA.unpack(frame[3])[0] for frame in quotas}
        self.assertEqual(totals, {call.id: call.inflow.granted[0] for call in calls})


class Own(Test):
    """What this side keeps for itself."""

    def test_the_deadlines_of_calls_that_have_ended_are_forgotten_while_an_earlier_one_goes_on(self) -> None:
        machine = Machine(1)
        polling = machine.it.start("a.poll", b"1", 0.0, 10.0, nape._Way.NONE, None, None)
        machine.sent()
        for _ in range(1000):
            call = machine.it.start("a.b", b"1", 0.0, 20.0, nape._Way.NONE, None, None)
            machine.sent()
            machine.take(K.REPLY, 0, call.id, b"1")
        late = [machine.it.start("a.b", b"1", 0.0, 20.0 + n, nape._Way.NONE, None, None) for n in range(200)]
        self.assertLess(len(machine.it._deadlines), 700)
        machine.it.tick(10.0)
        self.assertTrue(polling.is_done)
        machine.it.tick(119.0)
        self.assertEqual([call.is_done for call in late], [True] * 100 + [False] * 100)


class Async(Test):
    def test_p_17_who_makes_items_for_one_that_does_not_read_lets_the_event_loop_go_on(self) -> None:
        made = 0
        api = nape.Api("thumbs")

        @api.stream("scan")
        async def scan(cx: nape.Context, value: Any) -> AsyncIterator[str]:
            nonlocal made
            while made < 2_000:
                made += 1
                yield SLOW

        async def run() -> None:
            ours, theirs = socket.socketpair()
            with theirs:
                theirs.sendall(GREETING)
                link = nape.AsyncLink(nape.Side.NECK, nape._NO_TOKENS, nape.Limits(grace=0.2), [api])
                await link._open(ours, LONG)
                theirs.sendall(nape._frame(K.OPEN, 0, 1, (0, 0), MANY + OPEN))
                before = -1
                while not made or before != made:
                    before = made
                    await asyncio.sleep(0.01)
                self.assertLess(made, 100)
                await link.close()

        asyncio.run(run())
