"""Calls and events from Python to Rust, over each kind of socket, and how they end."""

from __future__ import annotations

import gc
import os
import socket
import struct
import tempfile
import threading
import time
from typing import Any, List

from .support import GREETING, LONG, PEER, Peer, PeerTest, Test, nape, nothing_left


class Calls(PeerTest):
    link: nape.Link

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.link = nape.connect(cls.peer.address)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.link.close()
        super().tearDownClass()

    def test_values_go_and_come(self) -> None:
        call = self.link.call
        self.assertEqual(call("t.codec"), "Json")
        for value in [None, True, 0, -1, 1 << 64, 0.1, "é\0\n", [], {}, [1, [2, {"a": None}]], "x" * 61_500]:
            self.assertEqual(call("t.echo", value), value)
        self.assertEqual(call("t.add", [2, -5]), -3)
        self.assertEqual(call("t.echo", (1, 2)), [1, 2])
        self.assertEqual(call("t.echo", nape.Raw(b" [1] "), raw=True), b" [1] ")
        self.assertEqual(call("t.echo", b"\0\xff\x10", raw=True), b'"AP8Q"')

    def test_large_values_go_and_come(self) -> None:
        text = "0123456789abcdef" * (3 << 16)
        self.assertEqual(self.link.call("t.len", text), 3 << 20)
        self.assertEqual(self.link.call("t.repeat", ["x", 3 << 20]), "x" * (3 << 20))
        pending = [self.link.start("t.echo", str(n) * (1 << 20)) for n in range(6)]
        for n, each in enumerate(pending):
            self.assertEqual(each.result(), str(n) * (1 << 20))

    def test_a_thousand_calls_at_once(self) -> None:
        pending = [self.link.start("t.echo", n) for n in range(1000)]
        self.assertEqual([each.result() for each in pending], list(range(1000)))

        def calls(base: int) -> None:
            for n in range(base, base + 50):
                came.append(self.link.call("t.echo", n) == n)

        came: List[bool] = []
        threads = [threading.Thread(target=calls, args=(50 * n,)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(came, [True] * 1000)

    def test_started_calls_are_polled_waited_for_and_call_back(self) -> None:
        slow = self.link.start("t.slow", 60_000)
        self.assertEqual((slow.done(), slow.wait(0.01), slow.path), (False, False, "t.slow"))
        came: List[Any] = []
        called = threading.Event()

        def back(pending: nape.Pending) -> None:
            came.append(pending.result())
            # A callback may call.
            came.append(self.link.call("t.echo", "again"))
            called.set()

        self.link.start("t.echo", "back").then(back)
        self.assertTrue(called.wait(LONG))
        self.assertEqual(came, ["back", "again"])
        done = self.link.start("t.echo", 1)
        done.wait()
        called.clear()
        done.then(lambda pending: called.set())
        self.assertTrue(called.wait(LONG))
        slow.cancel()
        with self.assertRaises(nape.Cancelled):
            slow.result()

    def test_what_runs_out_of_time_or_is_given_up_is_cancelled_there(self) -> None:
        before, begun = self.link.call("t.cancelled"), self.link.call("t.begun")
        start = time.monotonic()
        slow = self.link.start("t.slow", 60_000, timeout=0.5)
        self.until("it has begun", lambda: self.link.call("t.begun") > begun)
        with self.assertRaises(nape.TimedOut) as raised:
            slow.result()
        self.assertGreaterEqual(time.monotonic() - start, 0.5)
        self.assertIs(raised.exception.executed, nape.Executed.MAYBE)
        self.assertEqual(raised.exception.path, "t.slow")
        self.until("the handler hears of it", lambda: self.link.call("t.cancelled") == before + 1)
        # One that nobody holds any more.
        before, begun = self.link.call("t.cancelled"), self.link.call("t.begun")
        dropped = self.link.start("t.slow", 60_000)
        self.until("it has begun", lambda: self.link.call("t.begun") > begun)
        del dropped
        gc.collect()
        self.until("the handler hears of it", lambda: self.link.call("t.cancelled") >= before + 1)
        with self.assertRaises(nape.TimedOut) as raised:
            self.link.call("t.echo", 1, timeout=0)
        self.assertIs(raised.exception.executed, nape.Executed.NO)

    def test_the_time_that_is_left_travels(self) -> None:
        self.assertIsNone(self.link.call("t.left", timeout=None))
        left = self.link.call("t.left", timeout=20)
        self.assertTrue(0 < left <= 20_000_000, left)
        self.assertLessEqual(self.link.call("t.left"), 30_000_000)

    def test_faults_arrive_with_all_that_they_say(self) -> None:
        with self.assertRaises(nape.Fault) as raised:
            self.link.call("t.full", 12)
        fault = raised.exception
        self.assertEqual((fault.kind, fault.value, str(fault)), (nape.FaultKind.TYPED, {"wanted": 12}, "no room for 12"))
        self.assertIn("Full", fault.type_name)
        with self.assertRaises(nape.Fault) as raised:
            self.link.call("t.chain")
        fault = raised.exception
        self.assertEqual((fault.kind, fault.message, fault.chain), (nape.FaultKind.ERROR, "outside", ("inside",)))
        with self.assertRaises(nape.Fault) as raised:
            self.link.call("t.panic", "oh no")
        self.assertEqual(raised.exception.kind, nape.FaultKind.PANICKED)
        self.assertEqual(str(raised.exception), "the handler panicked: oh no")
        with self.assertRaises(nape.NoAnswer):
            self.link.call("t.silent")

    def test_refusals(self) -> None:
        link = self.link
        self.assertEqual(self.assert_rejected(nape.Rejection.NO_HANDLER, lambda: link.call("t.nowhere")).path, "t.nowhere")
        why = self.assert_rejected(nape.Rejection.BAD_ARGUMENTS, lambda: link.call("t.add", "two"))
        self.assertIn("(i64, i64)", str(why))
        self.assert_rejected(nape.Rejection.BAD_ARGUMENTS, lambda: link.call("t.add", nape.Raw(b"[1, 2")))
        self.assert_rejected(nape.Rejection.BAD_ARGUMENTS, lambda: next(link.stream("t.echo")))
        self.assert_rejected(nape.Rejection.BAD_ARGUMENTS, lambda: link.call("s.count", 3))
        why = self.assert_rejected(nape.Rejection.TOO_LARGE, lambda: link.call("t.echo", "x" * (16 << 20)))
        self.assertEqual(why.limit, 16 << 20)
        with self.assertRaisesRegex(nape.Fault, "over the limit"):
            link.call("t.repeat", ["x", 17 << 20])

    def test_misuse_is_found_here(self) -> None:
        for path, value in [("a b", 1), ("", 1), ("t.echo", {1, 2}), ("t.echo", float("inf")), ("t.echo", "\ud800")]:
            with self.assertRaises(nape.Misuse):
                self.link.call(path, value)
        with self.assertRaises(nape.Misuse):
            self.link.fire("a..b")
        with self.assertRaises(nape.Decode):
            self.link.call("t.echo", nape.Raw(b"[1"))

    def test_events_arrive_in_their_order(self) -> None:
        self.link.call("t.notes")
        for n in range(300):
            self.link.fire("t.note", n)
        notes: List[Any] = []
        self.until("all came", lambda: notes.extend(self.link.call("t.notes")) or len(notes) >= 300)
        self.assertEqual(sorted(notes), list(range(300)))
        self.link.fire("t.nowhere", 1)
        self.link.call("t.echo")


class OwnPeerTest(Test):
    """Each test has a program in Rust of its own."""

    def setUp(self) -> None:
        super().setUp()
        if not PEER:
            self.skipTest("NAPE_TEST_PEER is not set: run `cargo test --test python`")

    def peer(self, *arguments: Any, **named: Any) -> Peer:
        peer = Peer(*arguments, **named)
        self.addCleanup(peer.end)
        return peer


class Meeting(OwnPeerTest):
    """Who meets whom, where, and who does not."""

    def refused(self, text: str, address: str, **named: Any) -> nape.StartError:
        with self.assertRaises(nape.StartError) as raised:
            nape.connect(address, **named).close()
        self.assertIn(text, str(raised.exception))
        return raised.exception

    def test_either_side_over_either_socket(self) -> None:
        for side, ours in [("head", nape.Side.NECK), ("neck", nape.Side.HEAD)]:
            for address in ["unix", "tcp:127.0.0.1:0", "tcp:[::1]:0"]:
                if "::1" in address and not has_ipv6():
                    continue
                with self.subTest(side=side, address=address):
                    peer = self.peer(side, address, token=address != "unix")
                    with nape.connect(peer.address, side=ours, token=peer.token) as link:
                        self.assertEqual(link.call("t.len", "x" * 200_000), 200_000)
                        self.assertTrue(link.is_open)
                    self.assertFalse(link.is_open)

    def test_the_wrong_token_or_side_or_none(self) -> None:
        peer = self.peer("head", "tcp:127.0.0.1:0", token=True)
        why = self.refused("wrong token", peer.address, token=nape.Token("00" * 32))
        assert why.reason is not None
        self.assertEqual(why.reason.code, 5)
        self.refused("token", peer.address)
        # Right for the listener, whose own half is not what was expected: this side refuses it.
        assert peer.token is not None
        half = nape.Token(peer.token._secret.hex()[:32] + "00" * 16)
        self.assertEqual(self.refused("token", peer.address, token=half).reason.code, 5)  # type: ignore[union-attr]
        self.refused("", peer.address, token=peer.token, side=nape.Side.HEAD)
        with nape.connect(peer.address, token=peer.token) as link:
            self.assertEqual(link.call("t.echo", 1), 1)

    def test_addresses_at_which_nobody_is(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            self.refused("No such file", f"unix:{directory}/none")
        self.refused("longer", "unix:/" + "x" * 107)
        for address in ["", "unix:relative", "tcp:localhost:1", "tcp:127.0.0.1:0", "tcp:127.0.0.1:x", "udp:127.0.0.1:1"]:
            self.refused("no address", address, token=nape.Token("00" * 32))
        self.refused("loopback", "tcp:10.0.0.1:1", token=nape.Token("00" * 32))
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            address = f"tcp:127.0.0.1:{bound.getsockname()[1]}"
            self.refused("refused", address, token=nape.Token("00" * 32))

    def test_one_who_listens_and_says_nothing_or_something_else(self) -> None:
        for answer, text in [(b"", "in time"), (b"HTTP/1.1 400 Bad Request\r\n\r\n", "something else"), (None, "hung up")]:
            with self.subTest(answer), tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as door:
                door.bind(f"{directory}/door")
                door.listen()

                def be_odd() -> None:
                    opened = door.accept()[0]
                    if answer is not None:
                        opened.sendall(answer)
                        opened.recv(1)
                        held.wait(LONG)
                    opened.close()

                held = threading.Event()
                thread = threading.Thread(target=be_odd)
                thread.start()
                self.refused(text, f"unix:{directory}/door", limits=nape.Limits(start_timeout=0.3))
                held.set()
                thread.join()

    def test_another_user_is_not_believed(self) -> None:
        peer = self.peer()
        self.refused("does not allow", peer.address, allow=lambda pid, uid, gid: False)
        nape.connect(peer.address, allow=lambda pid, uid, gid: pid == peer.process.pid).close()

    def test_a_token_that_others_can_read_is_refused(self) -> None:
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("0f" * 32 + "\n")
            file.flush()
            self.assertEqual(nape.Token.read(file.name)._secret, bytes([15]) * 32)
            self.assertNotIn("0f", repr(nape.Token.read(file.name)))
            os.chmod(file.name, 0o644)
            with self.assertRaises(PermissionError):
                nape.Token.read(file.name)
        for text in ["", "0" * 63, "g" * 64]:
            with self.assertRaises(ValueError):
                nape.Token(text)


class Ends(OwnPeerTest):
    """Every call ends when the link does, however it does, and nothing is left."""

    def test_a_peer_that_is_killed(self) -> None:
        peer = self.peer()
        check = nothing_left(self)
        link = nape.connect(peer.address)
        pending = [link.start("t.slow", 60_000, timeout=None) for _ in range(64)]
        stream = link.stream("s.endless", 10)
        next(stream)
        peer.kill()
        for each in pending:
            with self.assertRaises(nape.Closed) as raised:
                each.result()
            self.assertIs(raised.exception.reason.kind, nape.CloseKind.GONE)
            self.assertIs(raised.exception.executed, nape.Executed.MAYBE)
        with self.assertRaises(nape.Closed):
            for _ in stream:
                pass
        with self.assertRaises(nape.Closed) as raised:
            link.call("t.echo", 1)
        self.assertIs(raised.exception.executed, nape.Executed.NO)
        with self.assertRaises(nape.Closed):
            link.fire("t.note", 1)
        self.assertTrue(link.wait(LONG))
        link.close()
        check()

    def test_a_peer_that_dies_in_a_handler(self) -> None:
        link = nape.connect(self.peer().address)
        with self.assertRaises(nape.Closed):
            link.call("t.die")
        link.close()

    def test_a_peer_that_says_goodbye(self) -> None:
        peer = self.peer()
        link = nape.connect(peer.address)
        pending = link.start("t.slow", 60_000)
        link.call("t.echo")
        peer.process.stdin.close()  # type: ignore[union-attr]
        with self.assertRaises(nape.Closed) as raised:
            pending.result()
        self.assertIs(raised.exception.reason.kind, nape.CloseKind.PEER)
        link.close()

    def test_closing_ends_all_and_leaves_nothing(self) -> None:
        peer = self.peer()
        check = nothing_left(self)
        for _ in range(20):
            link = nape.connect(peer.address)
            pending = link.start("t.slow", 60_000)
            up = link.upload("s.sum", 0)
            up.send(1, timeout=LONG)
            noted = link.call("t.echo", 5)
            start = time.monotonic()
            link.close()
            self.assertLess(time.monotonic() - start, 2.0)
            for each in [pending.result, lambda: up.send(2), up.finish]:
                with self.assertRaises(nape.Closed) as raised:
                    each()
                self.assertIs(raised.exception.reason.kind, nape.CloseKind.LOCAL)
            link.close()
            self.assertEqual(noted, 5)
        check()

    def test_events_that_wait_leave_before_the_goodbye(self) -> None:
        peer = self.peer()
        with nape.connect(peer.address) as other:
            with nape.connect(peer.address) as link:
                for n in range(200):
                    link.fire("t.note", ["last", n])
            notes: List[Any] = []
            self.until("all came", lambda: notes.extend(other.call("t.notes")) or len(notes) >= 200)

    def test_shutting_down_waits_for_what_is_under_way(self) -> None:
        peer = self.peer()
        link = nape.connect(peer.address)
        pending = link.start("t.slow", 100)
        self.assertTrue(link.shut_down(LONG))
        self.assertEqual(pending.result(), 100)
        link = nape.connect(peer.address)
        pending = link.start("t.slow", 60_000)
        self.assertFalse(link.shut_down(0.05))
        with self.assertRaises(nape.Closed):
            pending.result()

    def test_a_peer_that_reads_nothing_blocks_nobody(self) -> None:
        ours, theirs = socket.socketpair()
        limits = nape.Limits(grace=0.2)
        link = nape.Link(ours, nape.Side.NECK, nape._NO_TOKENS, limits, [])
        theirs.sendall(GREETING)
        pending = [link.start("a.b", "x" * 1_000_000, timeout=0.2) for _ in range(5)]
        for each in pending:
            with self.assertRaises(nape.TimedOut):
                each.result()
        link.close()
        self.assertTrue(link.wait(0))
        theirs.close()

    def test_a_peer_that_breaks_a_rule_is_told_its_number(self) -> None:
        ours, theirs = socket.socketpair()
        link = nape.Link(ours, nape.Side.NECK, nape._NO_TOKENS, nape.Limits(), [])
        theirs.sendall(nape._frame(5, 0, 1 << 63 | 1, (0, 0), b"1"))
        self.assertTrue(link.wait(LONG))
        data = b""
        while chunk := theirs.recv(1000):
            data += chunk
        self.assertEqual(data[-26:-22] + data[-2:], struct.pack("<IH", 22, 3))
        assert link.close_reason is not None
        self.assertEqual((link.close_reason.kind, link.close_reason.code), (nape.CloseKind.PROTOCOL, 3))
        link.close()
        theirs.close()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False
