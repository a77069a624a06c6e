"""The documents of the project, and the blocks of code in them."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
DOCUMENTS = [page for page in DOCUMENTS if not {"_build", "generated"} & set(page.parts)]


class Block(NamedTuple):
    """A fenced block: its language, the words after that, its text."""

    language: str
    words: str
    text: str

    @property
    def file(self) -> str:
        """The name of the file that the block is, told in its first line; empty for no file."""
        match = re.match(r"# (\w+\.(?:py|toml))\b", self.text)
        return match[1] if match else ""


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    fences = re.findall(r"^ *```(\w+)([^\n]*)\n(.*?)^ *```", page.read_text(), re.M | re.S)
    return [Block(language, words.strip(), text) for language, words, text in fences]


def commands(page: Path) -> list[str]:
    """What follows ``flowgauge`` in each line of a page's blocks that calls it."""
    fences = re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.M | re.S)
    return [line for text in fences for line in re.findall(r"^flowgauge (.*?)(?: &)?$", text, re.M)]


def named(page: Path) -> str:
    """The page's path from the root of the repository."""
    return str(page.relative_to(ROOT))
