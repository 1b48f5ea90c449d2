"""What the machine sends, and when: the window, the lanes, cancels, streams and the heartbeat."""

from __future__ import annotations

import math
import struct

from .support import Test, nape
from .test_golden import CALL, K, Machine


class Sending(Test):
    def test_the_window_holds_and_opens_again(self) -> None:
        machine = Machine(1)
        for _ in range(200):
            machine.it.fire("a.b", b"1")
        self.assertEqual(len(machine.sent(read=False)), 96)
        self.assertEqual(machine.sent(read=False), [])
        machine.peer_read = machine.it._sent
        machine.take(K.CREDIT)
        self.assertEqual(len(machine.sent(read=False)), 96)
        # Of the largest frames three more go than their bytes would let.
        machine = Machine(1)
        machine.it.fire("a.b", bytes(1 << 20))
        self.assertEqual(len(machine.sent(read=False)), 4)

    def test_credit_is_given_at_half_a_window(self) -> None:
        machine = Machine(1)
        for id in range(1, 49):
            self.assertEqual(machine.sent(), [])
            machine.take(K.EVENT, 0, id, b"\x0ethumbs.quality80")
        self.assertEqual([frame[0] for frame in machine.sent()], [K.CREDIT])

    def test_events_keep_their_order_around_large_ones(self) -> None:
        machine = Machine(1)
        for n in range(40):
            size = 100_000 if n % 7 == 3 else 1
            machine.it.fire("a.b", struct.pack("<I", n) + bytes(size))
        order = [frame[3][4:8] for frame in machine.sent() if frame[0] == K.EVENT and not frame[1] & nape._CONTINUES]
        self.assertEqual(order, [struct.pack("<I", n) for n in range(40)])

    def test_a_small_call_passes_a_large_one_that_is_under_way(self) -> None:
        machine = Machine(1)
        large = machine.it.start("a.b", bytes(5 << 20), 0.0, None, nape._Way.NONE, None, None)
        first = machine.sent(read=False)
        small = machine.it.start("a.b", b"1", 0.0, None, nape._Way.NONE, None, None)
        machine.peer_read = machine.it._sent
        machine.take(K.CREDIT)
        ids = [frame[2] for frame in machine.sent(read=False)]
        self.assertEqual({frame[2] for frame in first}, {large.id})
        self.assertIn(small.id, ids)

    def test_a_call_that_has_not_left_did_not_run(self) -> None:
        machine = Machine(1, open=False)
        call = machine.it.start("a.b", b"1", 0.0, 1.0, nape._Way.NONE, None, None)
        machine.it.tick(1.0)
        self.assertIs(call.error.executed, nape.Executed.NO)
        self.assertNotIn(K.CALL, [frame[0] for frame in machine.sent(now=1.0)])

    def test_time_that_is_left_is_sent_rounded_up(self) -> None:
        machine = Machine(1)
        machine.it.start("a.b", b"1", 0.0, 1.0, nape._Way.NONE, None, None)
        (frame,) = machine.sent(now=0.2500001)
        self.assertEqual(struct.unpack_from("<QQI", frame[3]), (0, 750_000, 0))

    def test_a_call_that_is_given_up_half_way_is_cut_short_and_cancelled(self) -> None:
        machine = Machine(1)
        call = machine.it.start("a.b", bytes(5 << 20), 0.0, 1.0, nape._Way.NONE, None, None)
        machine.sent(read=False)
        machine.it.tick(1.0)
        self.assertIs(call.error.executed, nape.Executed.MAYBE)
        machine.peer_read = machine.it._sent
        machine.take(K.CREDIT)
        self.assertEqual([frame[0] for frame in machine.sent(now=1.0)], [K.CANCEL])

    def test_nothing_is_said_of_the_items_of_a_call_before_it_has_begun(self) -> None:
        for in_flight, size in [(1, 1), (1024, 1 << 20)]:
            machine = Machine(1, nape.Limits(in_flight=in_flight))
            first = machine.it.start("a.b", b"1", 0.0, None, nape._Way.NONE, None, None)
            machine.sent(read=False)
            call = machine.it.start("a.b", bytes(size), 0.0, 5.0, nape._Way.BOTH, None, None)
            machine.it.end_items(call.outflow)
            machine.it.stop_items(call.inflow)
            # The call waits for its turn, or has left in part.
            self.assertTrue({frame[0] for frame in machine.sent(read=False)} <= {K.OPEN})
            machine.peer_read = machine.it._sent
            machine.take(K.REPLY, 0, first.id, b"1")
            self.assertEqual({frame[0] for frame in machine.sent()}, {K.OPEN})
            self.assertEqual(call.deadline, 5.0)
            machine.take(K.QUOTA, 0, call.id, nape._QUOTA.pack(1, 1))
            self.assertEqual([frame[0] for frame in machine.sent() if frame[0] != K.CREDIT], [K.STOP, K.END])
            machine.take(K.QUOTA, 0, call.id, nape._QUOTA.pack(2, 2))
            self.assertEqual(machine.sent(), [])

    def test_the_heartbeat_asks_and_gives_up(self) -> None:
        machine = Machine(1, nape.Limits(heartbeat=(1.0, 2.0)))
        self.assertEqual(machine.it.due(), 1.0)
        machine.it.tick(1.0)
        self.assertEqual(machine.sent(read=False)[0][:3], (K.PING, 0, 1))
        machine.take(K.PONG, 0, 1, now=1.5)
        for now in (2.5, 3.5):
            machine.it.tick(now)
            self.assertIsNone(machine.it.reason)
        machine.it.tick(4.5)
        self.assertIs(machine.it.reason.kind, nape.CloseKind.UNRESPONSIVE)


    def test_p_31_the_heartbeat_gives_up_only_who_has_had_time_to_answer(self) -> None:
        # This side stood still before it asked.
        machine = Machine(1, nape.Limits(heartbeat=(1.0, 2.0)))
        machine.it.tick(60.0)
        self.assertEqual(machine.sent(read=False)[0][:3], (K.PING, 0, 1))
        self.assertEqual(machine.it.due(), 61.0)
        machine.it.tick(61.0)
        self.assertIsNone(machine.it.reason)
        # And after it.
        machine.it.tick(90.0)
        self.assertIsNone(machine.it.reason)
        for now in (91.0, 91.9):
            machine.it.tick(now)
            self.assertIsNone(machine.it.reason)
        machine.it.tick(92.0)
        self.assertIs(machine.it.reason.kind, nape.CloseKind.UNRESPONSIVE)

    def test_p_31_the_limit_of_the_heartbeat_begins_with_the_question(self) -> None:
        for limit, given_up in [(0.5, 1.5), (1.0, 2.0), (0.0, 1.01)]:
            machine = Machine(1, nape.Limits(heartbeat=(1.0, limit)))
            machine.it.tick(1.0)
            self.assertEqual(machine.sent(read=False)[0][0], K.PING)
            machine.it.tick(1.0 + (given_up - 1.0) / 2)
            self.assertIsNone(machine.it.reason)
            self.assertAlmostEqual(machine.it.due(), given_up)
            machine.it.tick(given_up + 0.001)
            self.assertIs(machine.it.reason.kind, nape.CloseKind.UNRESPONSIVE)

    def test_a_timeout_without_end_is_no_deadline(self) -> None:
        for timeout in [math.inf, 1e300, 1e308]:
            machine = Machine(1, nape.Limits(in_flight=1))
            for _ in range(2):
                call = machine.it.start("a.b", b"1", 0.0, timeout, nape._Way.NONE, None, None)
                self.assertIsNone(call.deadline)
            (frame,) = machine.sent()
            self.assertEqual(struct.unpack_from("<QQI", frame[3])[1], nape._ALL_ONES)

    def test_what_a_handler_leaves_behind_is_not_bound_to_its_call(self) -> None:
        machine = Machine(1)
        machine.take(K.CALL, 0, 7, CALL)
        ((served, _),) = machine.served
        call = machine.it.start("a.b", b"1", 0.0, 60.0, nape._Way.NONE, None, served)
        self.assertEqual((call.deadline, call.parent), (2.0, served))
        machine.it.answer(served, K.REPLY, b"1")
        call = machine.it.start("a.b", b"1", 1.0, 60.0, nape._Way.NONE, None, served)
        self.assertEqual((call.deadline, call.parent), (61.0, None))
        self.assertEqual([frame[3][:8] for frame in machine.sent() if frame[2] == call.id], [bytes(8)])
