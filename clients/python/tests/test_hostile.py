"""The files of `tests/hostile`: what has to be refused is, by its number, and the rest does no harm."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Tuple

from .support import GOLDEN, Test, nape
from .test_golden import Machine

HOSTILE = GOLDEN.parent / "hostile"


def read(path: Path) -> Tuple[Dict[str, str], List[Tuple[bytes, int]]]:
    """The fields of a file, and its packets with how often each comes."""
    fields: Dict[str, str] = {}
    packets: List[Tuple[bytes, int]] = []
    packet = b""
    for line in [*path.read_text().splitlines(), ""]:
        if line.startswith("#"):
            key, colon, value = line[2:].partition(": ")
            if colon:
                fields[key] = value
        elif line.startswith("x "):
            packets.append((packet, int(line[2:])))
            packet = b""
        elif line:
            digits, _, times = line.partition(" x ")
            packet += bytes.fromhex(digits) * int(times or 1)
        elif packet:
            packets.append((packet, 1))
            packet = b""
    return fields, packets


class Hostile(Test):
    """What does not depend on the codec of values, since this client speaks JSON."""

    def machine(self, side: int, kind: str) -> Machine:
        limits = nape.Limits(message_limit=2048, served_calls=3) if kind == "limit" else nape.Limits()
        machine = Machine(side, limits)
        api = nape.Api("echo")
        for add, name in [
            (api.handle, "text"), (api.handle, "number"), (api.handle, "wait"),
            (api.upload, "take"), (api.duplex, "both"), (api.stream, "make"),
        ]:
            add(name)(lambda *_: None)
        machine.it.handlers = dict(api._handlers)
        return machine

    def play(self, side: int, folder: str) -> int:
        played = 0
        for kind in ["header", "message", "part", "limit", "stream"]:
            for path in sorted((HOSTILE / folder / kind).glob("*.hex")):
                fields, packets = read(path)
                expected = fields["expected"]
                if expected.startswith("answered"):
                    continue
                played += 1
                with self.subTest(f"{folder}/{kind}/{path.stem}"):
                    machine = self.machine(side, kind)
                    for packet, times in packets:
                        for _ in range(times):
                            machine.feed(packet)
                            # What may go goes, and is acknowledged by nobody.
                            machine.it.take_output(0.0)
                    if expected == "lives" or "on a stream" in fields:
                        self.assertIsNone(machine.it.reason)
                    else:
                        self.assertEqual(machine.rule, int(expected.split()[1]), machine.it.reason)
        return played

    def test_towards_a_neck(self) -> None:
        self.assertGreater(self.play(1, "from_head"), 100)

    def test_towards_a_head(self) -> None:
        self.assertGreater(self.play(0, "from_neck"), 100)
