"""The connection to a scheduler of Dask, which may go away and come back without its memory."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from distributed import Client
from distributed.comm.addressing import get_address_host_port

from benchmarks.execution.pools import ClusterError

POLL = 1.0  # seconds between two attempts to connect
CONNECT = 10.0  # seconds in which a scheduler has to answer
CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)


class Lost(Exception):
    """The scheduler does not answer, or has forgotten what was submitted."""


@contextmanager
def losses() -> Iterator[None]:
    """Turn what Dask raises where the scheduler is gone into `Lost`."""
    try:
        yield
    except OSError as error:
        raise Lost(str(error) or type(error).__name__) from error
    except CANCELLED as error:
        raise Lost("the connection is closed") from error


class Connection:
    """A client of a scheduler, made anew after every loss."""

    def __init__(self, address: str, waiting: Callable[[str], object]) -> None:
        self.address = address
        self.waiting = waiting
        self._client: Client | None = None

    def open(self) -> None:
        """Connect for the first time; ClusterError where no scheduler answers."""
        try:
            get_address_host_port(self.address)
            self._client = self._connected()
        except (Lost, ValueError) as error:
            raise ClusterError(
                f"no Dask scheduler answers at {self.address!r} ({error}): start one with "
                "'dask scheduler', or take --scheduler local"
            ) from error

    def client(self) -> Client:
        """The client; after a loss it waits for a scheduler."""
        while self._client is None:
            with suppress(Lost):
                self._client = self._connected()
                break
            threading.Event().wait(POLL)
        return self._client

    def _connected(self) -> Client:
        with losses():
            return Client(self.address, timeout=CONNECT, set_as_default=False)

    def lost(self, reason: Lost) -> None:
        """Let go of the client, and say so."""
        self.waiting(f"lost the scheduler at {self.address} ({reason}): waiting for it")
        self.close()

    def close(self) -> None:
        """Close the client, whatever the scheduler does."""
        if self._client is not None:
            with suppress(Lost), losses():
                self._client.close(timeout=5)
        self._client = None
