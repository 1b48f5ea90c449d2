"""What the guides show in Python compiles, and names nothing that is not there."""

from __future__ import annotations

import ast
import inspect
import re
from typing import Iterator, Tuple

from .support import GOLDEN, Test, nape


def snippets() -> Iterator[Tuple[str, ast.Module]]:
    for page in sorted((GOLDEN.parents[1] / "src" / "guide").glob("*.md")):
        for text in re.findall(r"^```text\n(import nape\b.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            yield page.name, ast.parse(text, page.name)


class Guides(Test):
    def test_what_they_show_is_there(self) -> None:
        pages = [page for page, _ in snippets()]
        for page in ("cookbook.md", "from_multiprocessing.md", "sockets.md"):
            self.assertIn(page, pages)

    def test_every_name_of_the_client_exists(self) -> None:
        for page, module in snippets():
            for node in ast.walk(module):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    owner = {"nape": nape, "link": nape.Link}.get(node.value.id)
                    if owner is not None:
                        self.assertTrue(hasattr(owner, node.attr), f"{page}: {node.value.id}.{node.attr}")

    def test_every_keyword_of_a_call_is_taken(self) -> None:
        for page, module in snippets():
            for node in ast.walk(module):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                    continue
                owner = {"nape": nape, "link": nape.Link}.get(getattr(node.func.value, "id", ""))
                if owner is None:
                    continue
                known = inspect.signature(getattr(owner, node.func.attr)).parameters
                for keyword in node.keywords:
                    self.assertIn(keyword.arg, known, f"{page}: {node.func.attr}")
