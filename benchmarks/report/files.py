"""The report's folder on disk: every file whole or absent, and none left from an earlier report."""

from __future__ import annotations

from pathlib import Path

from benchmarks.core import store

FOLDERS = ("tables", "figures")  # these hold nothing but a report's own files
PAGE = "index.html"  # written last: a folder that has it is one of a report


def usable(root: Path) -> Path:
    """Create the folder of a report if need be; ValueError where it holds files and no report."""
    if root.exists() and not root.is_dir():
        raise ValueError(f"{str(root)!r} is no folder: a report is written into one")
    if root.exists() and any(root.iterdir()) and not (root / PAGE).is_file():
        raise ValueError(
            f"{str(root)!r} holds files, and no report: name a new folder, or that of a report"
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"no report can be written into {str(root)!r}: {error.strerror}"
        ) from error
    return root


class Output:
    """A folder that knows what has been written into it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.written: set[Path] = set()
        for name in FOLDERS:
            (root / name).mkdir(parents=True, exist_ok=True)

    def write(self, name: str, content: str | bytes) -> Path:
        """Write one file, which holds either all of ``content`` or what it held before."""
        path = self.root / name
        store.replace(path, content.encode() if isinstance(content, str) else content)
        self.written.add(path)
        return path

    def remove_others(self) -> None:
        """Remove what an earlier report left: its tables, its figures and its unfinished files."""
        for name in FOLDERS:
            for path in (self.root / name).iterdir():
                if path.is_file() and path not in self.written:
                    path.unlink()
        for path in self.written:
            for unfinished in path.parent.glob(f".{path.name}.*"):
                unfinished.unlink()
