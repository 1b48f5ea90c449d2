"""Calls, events and streams from Rust to Python, and streams from Python to Rust."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import Any, Iterator, List

from .support import LONG, PeerTest, nape


@dataclasses.dataclass
class Point:
    x: int
    y: int


def api(test: Any) -> nape.Api:
    """What the tests serve to Rust; `test` sees what happens."""
    py = nape.Api("py")

    @py.handle("echo")
    def echo(cx: nape.Context, value: Any) -> Any:
        return value

    @py.handle("point")
    def point(cx: nape.Context, value: Any) -> Point:
        return Point(*value)

    @py.handle("raw", raw=True)
    def raw(cx: nape.Context, value: bytes) -> nape.Raw:
        return nape.Raw(value)

    @py.handle("nothing")
    def nothing(cx: nape.Context, value: Any) -> object:
        return object()

    @py.handle("fail")
    def fail(cx: nape.Context, value: Any) -> None:
        if value == "typed":
            raise nape.Fault("no room for 12", value={"wanted": 12}, type_name="Full")
        if value == "arguments":
            raise nape.BadArguments("it is no number", expected="a number")
        if value == "call":
            cx.link.call("t.full", 5)
        try:
            {}["key"]
        except KeyError as error:
            raise ValueError("no such thing") from error

    @py.handle("depth")
    def depth(cx: nape.Context, n: int) -> int:
        return 0 if n == 0 else 1 + cx.link.call("back.depth", n - 1)

    @py.handle("wait")
    def wait(cx: nape.Context, value: Any) -> bool:
        test.waiting.set()
        end = time.monotonic() + LONG
        while not cx.is_cancelled and time.monotonic() < end:
            time.sleep(0.002)
        test.cancelled.set()
        return cx.is_cancelled

    @py.handle("begun")
    def begun(cx: nape.Context, value: Any) -> bool:
        return test.waiting.wait(LONG)

    @py.handle("held")
    def held(cx: nape.Context, value: Any) -> Any:
        test.gate.wait(LONG)
        return value

    @py.handle("left")
    def left(cx: nape.Context, value: Any) -> float:
        remaining = cx.remaining()
        return -1.0 if remaining is None else remaining

    @py.handle("note")
    def note(cx: nape.Context, value: Any) -> None:
        test.notes.append((cx.is_event, value))

    @py.stream("count")
    def count(cx: nape.Context, to: int) -> Iterator[int]:
        try:
            for n in range(to):
                test.made = n
                yield n
        finally:
            test.closed.set()

    @py.stream("fail_after")
    def fail_after(cx: nape.Context, to: int) -> Iterator[int]:
        yield from range(to)
        raise nape.Fault("it is over", value={"wanted": to})

    @py.upload("sum")
    def total(cx: nape.Context, value: Any, items: nape.Incoming) -> int:
        return sum(items)

    @py.upload("two")
    def two(cx: nape.Context, value: Any, items: nape.Incoming) -> List[Any]:
        return [next(items), next(items)]

    @py.duplex("double")
    def double(cx: nape.Context, value: Any, items: nape.Incoming, out: nape.Outgoing) -> str:
        for item in items:
            out.send(item * 2)
        return "done"

    return py


class Serving(PeerTest):
    def setUp(self) -> None:
        super().setUp()
        self.waiting, self.cancelled, self.closed = threading.Event(), threading.Event(), threading.Event()
        self.gate = threading.Event()
        self.notes: List[Any] = []
        self.made = 0
        self.link = nape.connect(self.peer.address, serve=[api(self)])
        self.addCleanup(self.link.close)

    def rust_calls(self, path: str, value: Any = None, timeout: float = LONG) -> Any:
        return self.link.call("back.call", [path, value, int(timeout * 1000)])

    def test_handlers_answer(self) -> None:
        for value in [None, "é", [1, {"a": 2}], "x" * (3 << 20)]:
            self.assertEqual(self.rust_calls("py.echo", value), {"ok": value})
        self.assertEqual(self.rust_calls("py.point", [1, 2]), {"ok": {"x": 1, "y": 2}})
        self.assertEqual(self.rust_calls("py.raw", [1, 2]), {"ok": [1, 2]})
        self.assertTrue(0 < self.rust_calls("py.left", timeout=20)["ok"] <= 20)

    def test_many_calls_at_once(self) -> None:
        self.assertEqual(self.link.call("back.many", ["py.echo", 1000]), {"ok": 499_500})

    def test_what_handlers_raise(self) -> None:
        fault = self.rust_calls("py.fail", "typed")["fault"]
        self.assertEqual((fault["kind"], fault["message"], fault["type"]), ("Typed", "no room for 12", "Full"))
        self.assertEqual(fault["typed"], {"wanted": 12})
        fault = self.rust_calls("py.fail", "other")["fault"]
        self.assertEqual((fault["kind"], fault["message"], fault["chain"]), ("Error", "no such thing", ["'key'"]))
        self.assertEqual(fault["type"], "builtins.ValueError")
        told = self.rust_calls("py.fail", "arguments")
        self.assertEqual(told["error"], "Rejected")
        self.assertIn("it is no number", told["detail"])
        fault = self.rust_calls("py.fail", "call")["fault"]
        self.assertEqual((fault["kind"], fault["inner"]["fault"]["typed"]), ("Call", {"wanted": 5}))
        self.assertIn("does not encode", self.rust_calls("py.nothing")["fault"]["message"])

    def test_p_18_a_handler_that_fails_with_what_cannot_be_told_is_answered(self) -> None:
        more = nape.Api("more")

        @more.handle("odd")
        def odd(cx: nape.Context, value: Any) -> None:
            raise nape.TimedOut("a.b", float("inf"), nape.Executed.NO)

        self.link.serve(more)
        self.assertIn("nothing can be told", self.rust_calls("more.odd")["fault"]["message"])
        self.assertEqual(self.link._machine.served, {})

    def test_what_nobody_serves_is_refused(self) -> None:
        self.assertIn("NoHandler", self.rust_calls("py.nowhere")["detail"])
        self.assertIn("BadArguments", self.rust_calls("py.count", 3)["detail"])
        self.assertIn("BadArguments", self.link.call("back.take", ["py.echo", 3, 1])["ok"][0]["detail"])
        with self.assertRaises(ValueError):
            self.link.serve(api(self))
        more = nape.Api("more")
        more.handle("one")(lambda cx, value: 1)
        self.link.serve(more)
        self.assertEqual(self.rust_calls("more.one"), {"ok": 1})

    def test_events_come(self) -> None:
        self.link.call("back.fire", ["py.note", "x", 200])
        self.until("all came", lambda: len(self.notes) == 200)
        self.assertEqual(set(self.notes), {(True, "x")})
        self.link.call("back.fire", ["py.fail", "x", 1])
        self.link.call("back.fire", ["py.nowhere", "x", 1])
        self.assertEqual(self.rust_calls("py.echo", 1), {"ok": 1})
        self.assertEqual(self.link._machine.n_unhandled, 1)

    def test_calls_within_calls_to_any_depth(self) -> None:
        self.assertEqual(self.link.call("back.nested", ["py.echo", 7]), 7)
        # Deeper than there are workers on either side.
        self.assertEqual(self.link.call("back.depth", 40), 40)

    def test_a_caller_that_gives_up_is_heard_of(self) -> None:
        told = self.rust_calls("py.wait", timeout=1.0)
        self.assertEqual(told["error"], "TimedOut")
        self.assertTrue(self.cancelled.wait(LONG))
        self.waiting.clear()
        self.cancelled.clear()
        self.assertEqual(self.link.call("back.drop", "py.wait"), {"ok": True})
        self.assertTrue(self.cancelled.wait(LONG))

    def test_the_end_of_a_handler_is_the_end_of_what_it_calls(self) -> None:
        ended: List[BaseException] = []
        more = nape.Api("more")

        @more.handle("slow")
        def slow(cx: nape.Context, value: Any) -> None:
            try:
                cx.link.call("t.slow", 60_000, timeout=None)
            except nape.CallError as error:
                ended.append(error)
                raise

        self.link.serve(more)
        self.rust_calls("more.slow", timeout=1.0)
        self.until("it ends", lambda: ended)
        self.assertIsInstance(ended[0], (nape.TimedOut, nape.Cancelled))

    def test_more_than_is_served_at_once_waits_or_is_refused(self) -> None:
        limits = nape.Limits(served_calls=10, workers=1)
        with nape.connect(self.peer.address, serve=[api(self)], limits=limits) as link:
            many = link.start("back.many", ["py.held", 30])
            self.until("some are refused", lambda: len(link._machine.served) == 10)
            self.gate.set()
            self.assertEqual(many.result()["error"], "Rejected")
            self.assertEqual(link.call("back.many", ["py.echo", 10]), {"ok": 45})

    def test_closing_in_a_handler(self) -> None:
        more = nape.Api("more")

        @more.handle("close")
        def close(cx: nape.Context, value: Any) -> None:
            cx.link.close()

        self.link.serve(more)
        pending = self.link.start("back.call", ["more.close", None, 30_000])
        self.assertTrue(self.link.wait(LONG))
        with self.assertRaises(nape.Closed):
            pending.result()

    # Streams.

    def test_streams_of_rust(self) -> None:
        self.assertEqual(list(self.link.stream("s.count", 5000)), list(range(5000)))
        self.assertEqual(list(self.link.stream("s.count", 0)), [])
        items, came = self.link.stream("s.fail", 100), []
        with self.assertRaises(nape.Fault) as raised:
            for item in items:
                came.append(item)
        self.assertEqual((len(came), raised.exception.value), (100, {"wanted": 100}))
        self.assertEqual(list(items), [])
        with self.assertRaises(nape.Fault):
            next(self.link.stream("s.refuse"))
        with self.assertRaises(nape.Rejected):
            next(self.link.stream("s.nowhere"))

    def test_who_takes_nothing_pauses_who_makes(self) -> None:
        with self.link.stream("s.endless", 1000) as items:
            next(items)
            self.assertTrue(items.wait(LONG))
            before = -1
            while before != (before := self.link.call("s.made")):
                time.sleep(0.02)
            self.assertLessEqual(before, 200)
            for _ in range(500):
                next(items)
        self.assertEqual(list(items), [])
        # A large item each, of which few may wait.
        with self.link.stream("s.endless", 3 << 20) as items:
            for _ in range(5):
                self.assertEqual(len(next(items)), 3 << 20)
        self.assertEqual(self.link.call("t.echo", 1), 1)

    def test_uploads_to_rust(self) -> None:
        with self.link.upload("s.sum", 5) as up:
            for n in range(3000):
                up.send(n)
            self.assertEqual(up.finish(), sum(range(3000)) + 5)
        with self.link.upload("s.lens") as up:
            for n in [0, 70_000, 3 << 20, 1]:
                up.send("x" * n)
            self.assertEqual(up.finish(), [0, 70_000, 3 << 20, 1])
        with self.link.upload("s.three") as up:
            with self.assertRaises(nape.Cancelled):
                for n in range(100_000):
                    up.send(1)
            self.assertEqual(up.finish(), 3)
        up = self.link.upload("s.nowhere")
        with self.assertRaises(nape.Rejected):
            up.send(1)
        with self.assertRaises(nape.Rejected):
            up.finish()
        up = self.link.upload("s.sum", 0)
        up.cancel()
        with self.assertRaises(nape.Cancelled):
            up.finish()
        with self.assertRaises(nape.Rejected):
            self.link.upload("s.sum", "no number").finish()

    def test_an_end_of_items_waits_for_the_call_that_waits_or_is_large(self) -> None:
        with nape.connect(self.peer.address, limits=nape.Limits(in_flight=1)) as link:
            first = link.start("t.slow", 50)
            self.assertEqual(link.upload("s.sum", 7).finish(), 7)
            self.assertEqual(first.result(), 50)
        with self.link.duplex("s.chat", "x" * (3 << 20)) as chat:
            chat.end()
            self.assertEqual((len(list(chat)), chat.finish()), (2, 0))

    def test_a_large_item_that_is_given_up_half_way(self) -> None:
        for _ in range(4):
            up = self.link.upload("s.lens")
            up.send("x")
            up.send("x" * (3 << 20))
            up.cancel()
            items = self.link.stream("s.endless", 3 << 20)
            self.assertTrue(items.wait(LONG))
            items.close()
            large = self.link.start("t.echo", "x" * (3 << 20))
            large.cancel()
            large = self.link.start("t.repeat", ["x", 3 << 20], timeout=0.01)
            self.assertEqual(self.link.call("t.echo", 1), 1)
            large.wait()
        self.assertIsNone(self.link.close_reason)

    def test_a_duplex_to_rust(self) -> None:
        with self.link.duplex("s.chat", "Ann") as chat:
            self.assertEqual(next(chat.incoming), "hello Ann")
            for word in ["one", "two"]:
                chat.send(word)
                self.assertEqual(next(chat.incoming), word.upper())
            chat.end()
            self.assertEqual((list(chat), chat.finish()), (["bye"], 2))
        with self.link.duplex("s.chat", "Ben") as chat:
            sender = threading.Thread(target=lambda: [chat.send(str(n)) for n in range(2000)] and chat.end())
            sender.start()
            self.assertEqual(len(list(chat)), 2002)
            sender.join()

    def test_streams_to_rust(self) -> None:
        told = self.link.call("back.take", ["py.count", 1000, 2000])
        self.assertEqual(told, {"ok": [{"ok": n} for n in range(1000)]})
        self.assertTrue(self.closed.wait(LONG))
        # Who takes no more ends who makes them.
        self.closed.clear()
        told = self.link.call("back.take", ["py.count", 1_000_000_000, 3])
        self.assertEqual(told, {"ok": [{"ok": 0}, {"ok": 1}, {"ok": 2}]})
        self.assertTrue(self.closed.wait(LONG))
        self.assertLess(self.made, 1000)
        told = self.link.call("back.take", ["py.fail_after", 3, 10])["ok"]
        self.assertEqual(told[:3], [{"ok": 0}, {"ok": 1}, {"ok": 2}])
        self.assertEqual((len(told), told[3]["fault"]["typed"]), (4, {"wanted": 3}))

    def test_uploads_and_duplexes_of_rust(self) -> None:
        self.assertEqual(self.link.call("back.give", ["py.sum", list(range(2000))]), {"ok": 1_999_000})
        self.assertEqual(self.link.call("back.give", ["py.two", [1, "x" * 200_000]]), {"ok": [1, "x" * 200_000]})
        told = self.link.call("back.both", ["py.double", list(range(500))])
        self.assertEqual(told, {"ok": [list(range(0, 1000, 2)), "done"]})
