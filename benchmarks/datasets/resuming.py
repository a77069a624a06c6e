"""A downloader for pooch that resumes an interrupted download; pooch's own begins anew."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Progress = Callable[[int, int | None], None]  # bytes so far, and in total if known
TRIES = 5  # attempts in a row without a new byte before it gives up
TIMEOUT = (10, 60)  # seconds to connect, and between bytes
CHUNK = 1 << 14  # bytes per write: the most that is lost when an answer breaks off


class Resuming:
    """Keeps what has come in ``part`` and requests the rest until it is whole.

    The rest of another version would not fit. So the version is taken from the server's first
    answer and required of the next (If-Range); if it names none, only a download that will be
    ``checked`` by its sum is resumed. Raises ConnectionError if no more comes.
    """

    def __init__(
        self, part: Path, *, checked: bool = True, progress: Progress | None = None
    ) -> None:
        self.part, self.checked = part, checked
        self.version = part.with_name(f"{part.name}.version")
        self.progress = progress or (lambda done, total: None)

    def __call__(self, url: str, output_file: Any, pooch: Any, check_only: bool = False) -> None:
        import requests
        from requests.exceptions import ChunkedEncodingError

        transient = (requests.ConnectionError, requests.Timeout, ChunkedEncodingError)
        most, idle, response, cause = self._size(), 0, False, "it sends less than it announces"
        while not response:
            try:
                response = self._request(url)
            except transient as error:
                cause = _cause(error)
            except requests.RequestException as error:
                raise ConnectionError(_cause(error)) from error
            most, idle = max(most, self._size()), 0 if self._size() > most else idle + 1
            if idle >= TRIES and not response:
                raise ConnectionError(f"gave up after {most:,} bytes, which are kept: {cause}")
        self.version.unlink(missing_ok=True)
        os.replace(self.part, output_file)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _request(self, url: str) -> bool:
        """Request what is missing, once; return whether the file is then whole."""
        import requests

        start, headers = self._size(), {"Accept-Encoding": "identity"}
        version = self.version.read_text() if self.version.exists() else ""
        if start and (version or self.checked):
            headers["Range"] = f"bytes={start}-"
            headers |= {"If-Range": version} if version else {}
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            answer = response.headers
            span, _, length = answer.get("Content-Range", "").partition("/")
            if response.status_code == 416 and length == str(start):
                return True
            if response.status_code == 416 or (span and not span.startswith(f"bytes {start}-")):
                self.part.unlink()  # it is of another file
                return False
            response.raise_for_status()
            start = start if response.status_code == 206 else 0
            self.version.write_text(_version(answer))
            left = answer.get("Content-Length", "")
            total = start + int(left) if left.isdigit() else None
            with self.part.open("ab" if start else "wb") as file:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    self.progress(file.tell(), total)
        return total is None or self._size() == total


def _version(headers: Mapping[str, str]) -> str:
    """Return what identifies a version of a file, in a form that If-Range takes; or ""."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _cause(error: Exception) -> str:
    """Return the innermost reason of a network error, in one line."""
    inner: Any = error
    while isinstance(
        deeper := getattr(inner, "reason", None) or (inner.args or ("",))[0], Exception
    ):
        inner = deeper
    reason = inner.args[0] if inner.args and isinstance(inner.args[0], str) else str(inner)
    return (reason.splitlines() or [type(error).__name__])[0]
