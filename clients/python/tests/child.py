"""A child of a Head, for `test_child`."""

import os
import pathlib
import sys
import time
from typing import Any, Iterator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import nape  # noqa: E402

py = nape.Api("py")


@py.handle("echo")
def echo(cx: nape.Context, value: Any) -> Any:
    return value


@py.handle("depth")
def depth(cx: nape.Context, n: int) -> int:
    return 0 if n == 0 else 1 + cx.link.call("back.depth", n - 1)


@py.stream("count")
def count(cx: nape.Context, to: int) -> Iterator[int]:
    yield from range(to)


@py.handle("die")
def die(cx: nape.Context, value: Any) -> None:
    print("last words", file=sys.stderr, flush=True)
    os._exit(7)


link = nape.from_env(serve=[py])
assert "NAPE_NECK" not in os.environ
try:
    nape.from_env()
    raise SystemExit("it was found twice")
except nape.StartError:
    pass
assert link.call("t.add", [2, 3]) == 5
link.wait()
if sys.argv[1] == "linger":
    # It would stay for ever, but ends with its Head.
    time.sleep(600)
