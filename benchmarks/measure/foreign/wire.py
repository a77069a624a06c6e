"""Messages between two processes: JSON and the raw bytes of arrays, nothing pickled.

A message is a frame with a JSON object, then one frame for each array that its ``arrays`` lists as
[name, dtype, shape]: the array's bytes in C order. Frames are those of
`multiprocessing.connection`: a length, then as many bytes.

A request is ``{"call": NAME, "options": {...}, "repeat": K, "fetch": true}`` with those arguments
that are arrays. The first is "build", which makes a model; each later one runs one of its calls K
times. A reply is ``{"seconds": [...], "facts": {...}}``, with the arrays of the last run where they
are to be fetched, or ``{"error": LINE}``. The server greets with a reply whose facts are the
versions of its packages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from multiprocessing.connection import Connection
from types import MappingProxyType
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]
NONE: Arrays = MappingProxyType({})


def send(pipe: Connection, header: Mapping[str, Any], arrays: Arrays = NONE) -> None:
    """Send a message; OSError where nobody reads."""
    listed = [[name, array.dtype.str, array.shape] for name, array in arrays.items()]
    pipe.send_bytes(json.dumps({**header, "arrays": listed}).encode())
    for array in arrays.values():
        pipe.send_bytes(array.tobytes())


def receive(pipe: Connection) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the next message's header and arrays; EOFError if the other end is closed."""
    header = json.loads(pipe.recv_bytes())
    arrays = {
        name: np.frombuffer(pipe.recv_bytes(), dtype).reshape(shape)
        for name, dtype, shape in header.pop("arrays")
    }
    return header, arrays
