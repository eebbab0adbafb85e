"""An event loop whose server takes connections in turn with those of the other workers.

Workers that share a listening socket take whatever waits there whenever they wake, and of eight
connections that arrive together one of two workers may get all, for as long as these stay open.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import selectors
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio import SelectorEventLoop as Loop
else:
    try:
        from uvloop import Loop
    except ImportError:  # it is not to be had everywhere
        from asyncio import SelectorEventLoop as Loop

WAIT = 0.0002  # seconds that a worker leaves a connection to others, for each that it has
LONGEST = 0.002  # at most, so that hundreds a second can come
GONE = 0.1  # seconds between looks whether the server was closed
log = logging.getLogger("m6rec")


class FairLoop(Loop):
    """uvloop's, but for how the connections of a given socket are taken."""

    async def create_server(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        """Serve a socket that is given, in turn with others; see asyncio."""
        sock, backlog = options.get("sock"), options.get("backlog", 100)
        if sock is None or options.get("ssl") is not None:
            return await super().create_server(protocol_factory, *args, **options)
        sock.listen(backlog)
        return Acceptor(self, protocol_factory, sock)


class Acceptor:
    """Takes one connection at a time, from a thread: the next only once the loop has the last, so
    that a busy worker takes fewer, and later the more it has. A server of asyncio to uvicorn."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, factory: Callable[[], Any], sock: socket.socket
    ) -> None:
        self.sockets = (sock,)
        self._loop, self._factory, self._sock = loop, factory, sock
        self._open: weakref.WeakSet[asyncio.BaseTransport] = weakref.WeakSet()
        self._closing = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        sock.setblocking(False)  # the processes share this, as they share the socket
        self._thread = threading.Thread(target=self._accept, name="accept", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more; those that there are stay."""
        self._closing.set()
        self._thread.join()

    async def wait_closed(self) -> None:
        """Return; ``close`` has waited."""

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ)
            while not self._closing.is_set():
                try:
                    if selector.select(GONE):
                        self._accept_one()
                except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                    continue  # another worker has it, or it is gone
                except Exception as error:  # too many open files, say; later it may go well
                    log.error("a connection cannot be taken: %s", error)
                    self._closing.wait(GONE)

    def _accept_one(self) -> None:
        time.sleep(min(LONGEST, WAIT * self._count()))
        connection, _ = self._sock.accept()
        taken = threading.Event()
        self._loop.call_soon_threadsafe(self._take, connection, taken)
        while not taken.wait(GONE) and not self._closing.is_set():
            pass

    def _count(self) -> int:
        """How many connections are open; none comes while this thread counts."""
        return sum(not each.is_closing() for each in self._open)

    def _take(self, connection: socket.socket, taken: threading.Event) -> None:
        if self._closing.is_set():  # who would tell it later that the server ends?
            connection.close()
            return
        task = self._loop.create_task(self._connect(connection, taken))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, connection: socket.socket, taken: threading.Event) -> None:
        connection.setblocking(False)
        with contextlib.suppress(OSError):  # not of this family
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            transport, _ = await self._loop.connect_accepted_socket(self._factory, connection)
            self._open.add(transport)
            if self._closing.is_set():
                transport.close()
        except OSError:  # it broke off
            connection.close()
        finally:
            taken.set()
