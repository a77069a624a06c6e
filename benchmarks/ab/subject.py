"""What of a revision is timed: the flows of a package, of a plug-in's file, or of both."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.ab.checkouts import TIMED
from benchmarks.measure.machine import git

OWN = "flows"  # the package of this project, which times itself
PROJECT = "pyproject.toml"
GROUP = "flowgauge.flows"


@dataclass(frozen=True)
class Subject:
    """A dotted package and a plug-in's file, by its path in the repository; one may be empty.

    ``root`` is the repository's working tree.
    """

    package: str = OWN
    plugin: str = ""
    root: Path = Path()

    @property
    def own(self) -> bool:
        """Whether the library itself is timed; else its installed version runs both revisions."""
        return self.package == OWN

    @property
    def name(self) -> str:
        """The package, the plug-in, or both, for a message."""
        parts = [f"package {self.package!r}"] * bool(self.package)
        return " and ".join(parts + [f"plug-in {self.plugin!r}"] * bool(self.plugin))

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the repository that are laid out; the rest of ours is not timed."""
        return TIMED if self.own else (".",)

    def source(self, checkout: Path) -> Path | None:
        """The folder of a checkout that holds the package, the least deep one; None if absent."""
        inner = self.package.replace(".", "/")
        ends = [f"{inner}/__init__.py", f"{inner}.py"] if inner else []
        files = [(file, Path(end)) for end in ends for file in checkout.rglob(end)]
        if not files:
            return None
        file, end = min(files, key=lambda pair: (len(pair[0].parts), pair))
        return file.parents[len(end.parts) - 1]

    def project(self, checkout: Path) -> dict[str, Any]:
        """The table ``project`` nearest to the package in a checkout; ValueError if it is no TOML.

        Empty if there is none.
        """
        folder = self.source(checkout) or checkout
        folders = [f for f in (folder, *folder.parents) if f.is_relative_to(checkout)]
        file = next((f / PROJECT for f in folders if (f / PROJECT).is_file()), None)
        if file is None:
            return {}
        try:
            return dict(tomllib.loads(file.read_text(encoding="utf-8")).get("project", {}))
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"cannot read {file.name} of a revision: {error}") from error

    def task(self, checkout: Path) -> dict[str, Any]:
        """What the worker of a checkout has to import, as JSON."""
        source = self.source(checkout)
        return {
            "checkout": str(checkout),
            "root": str(self.root.resolve()),
            "source": None if source is None else str(source),
            "own": self.own,
            "package": self.package,
            "plugin": self.plugin,
            "modules": [] if self.own else sorted({*self._modules(checkout)}),
        }

    def _modules(self, checkout: Path) -> Iterator[str]:
        """The modules that a revision declares to register flows of the package."""
        points = self.project(checkout).get("entry-points", {}).get(GROUP, {})
        for point in points.values():
            module = str(point).partition(":")[0].strip()
            if f"{module}.".startswith(f"{self.package}."):
                yield module


def resolve(package: str | None, plugin: Path | None) -> Subject:
    """The subject of two options, in the repository of the working folder.

    ValueError outside of a repository, for a name of no package and for a file elsewhere.
    """
    root = Path(git(Path(), "rev-parse", "--show-toplevel"))
    if package and not all(part.isidentifier() for part in package.split(".")):
        raise ValueError(f"--package {package!r} is no name of a package: write it as in `import`")
    if plugin is None:
        return Subject(package or OWN, root=root)
    if not plugin.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"--plugin {str(plugin)!r} lies outside of the repository {str(root)!r}")
    path = plugin.resolve().relative_to(root.resolve())
    return Subject(package or "", str(path), root)
