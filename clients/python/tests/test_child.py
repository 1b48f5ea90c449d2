"""Python as the child of a Head in Rust, over the pipe that it inherits."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import unittest

from .support import LONG, PEER, Test, nape

CHILD = pathlib.Path(__file__).with_name("child.py")


@unittest.skipUnless(PEER, "NAPE_TEST_PEER is not set: run `cargo test --test python`")
class Child(Test):
    def head(self, verb: str) -> "subprocess.CompletedProcess[str]":
        words = [PEER, "spawn", verb, sys.executable, str(CHILD)]
        return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=LONG)

    def is_gone(self, pid: int) -> bool:
        try:
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    def test_a_head_calls_its_child_and_is_called(self) -> None:
        done = self.head("calls")
        self.assertEqual((done.returncode, done.stdout), (0, "fine\n"), done.stderr)

    def test_a_child_that_dies_is_told_of_with_its_last_words(self) -> None:
        done = self.head("die")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("7", done.stdout)

    def test_a_child_ends_with_its_head(self) -> None:
        done = self.head("leave")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.until("the child has ended", lambda: self.is_gone(int(done.stdout)))

    def test_a_child_ends_with_a_head_that_was_killed(self) -> None:
        done = self.head("linger")
        self.assertEqual(done.returncode, -signal.SIGABRT, done.stderr)
        self.until("the child has ended", lambda: self.is_gone(int(done.stdout)))

    def test_a_head_that_talks_over_something_else_is_refused(self) -> None:
        done = self.head("ipc")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("Wire::Pipe", done.stderr)

    def test_a_program_that_no_head_has_started(self) -> None:
        os.environ.pop("NAPE_NECK", None)
        with self.assertRaisesRegex(nape.StartError, "no Head"):
            nape.from_env()
        for text in ["2 x", "1 pipe zz 0:0:0 1 0:0:0", f"1 pipe {'00' * 16} 99:0:0 1 99:0:0", f"1 pipe {'00' * 16} 0:0:0 1 0:0:0"]:
            os.environ["NAPE_NECK"] = text
            with self.assertRaises(nape.StartError):
                nape.from_env()
