"""A server of one file, and archives for it to serve."""

from __future__ import annotations

import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

CONTENT = np.random.default_rng(0).bytes(100_000)


class Server:
    """Serves one file; ``cuts`` are bytes after which answers break off, one an answer."""

    def __init__(self) -> None:
        self.content, self.tag, self.ranges = CONTENT, '"v1"', True
        self.cuts: list[int] = []
        self.requests: list[str | None] = []
        self.sent = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/folder/data.tar.gz?download=1"

    def answer(self, to: BaseHTTPRequestHandler) -> None:
        wanted, version = to.headers["Range"], to.headers["If-Range"]
        self.requests.append(wanted)
        start = 0
        if wanted and self.ranges and version in (None, self.tag):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(self.content) > 0 and start:
            to.send_response(416)
            to.send_header("Content-Range", f"bytes */{len(self.content)}")
            to.send_header("Content-Length", "0")
            to.end_headers()
            return
        body = self.content[start:]
        to.send_response(206 if start else 200)
        if start:
            last = len(self.content) - 1
            to.send_header("Content-Range", f"bytes {start}-{last}/{len(self.content)}")
        if self.tag:
            to.send_header("ETag", self.tag)
        to.send_header("Content-Length", str(len(body)))
        to.end_headers()
        body = body[: self.cuts.pop(0)] if self.cuts else body
        self.sent += len(body)
        to.wfile.write(body)


def tar(*members: tuple[str, bytes | tarfile.TarInfo], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name = name
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                archive.addfile(info)
    return buffer.getvalue()


def npy(x: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, x)
    return buffer.getvalue()


def special(kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, link
    return info
