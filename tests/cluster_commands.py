"""Stand-ins of the commands of a cluster: each notes what it is called with."""

from __future__ import annotations

from pathlib import Path

NOTE = '#!/bin/bash\n{{ printf "%s\\0" "$@"; echo; }} >>"{log}"\n{body}\n'


class Commands:
    """A folder of commands that comes first in PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def add(self, name: str, body: str = "") -> Path:
        """Add a command; ``$log`` is the file of its calls, a line each."""
        path = self.folder / name
        path.write_text(NOTE.format(log=self._log(name), body=f'log="{self._log(name)}"\n{body}'))
        path.chmod(0o755)
        return path

    def calls(self, name: str) -> list[list[str]]:
        """The arguments of each call of a command, in order."""
        log = self._log(name)
        lines = log.read_text().splitlines() if log.exists() else []
        return [line.split("\0")[:-1] for line in lines]

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"
