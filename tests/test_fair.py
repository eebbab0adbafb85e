"""Workers that share a socket take its connections in turn."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

pytest.importorskip("uvicorn")

from m6rec.serving.fair import FairLoop


class Named(asyncio.Protocol):
    """Answers whatever it is told with the name of its worker."""

    def __init__(self, name: str) -> None:
        self.name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.name.encode())  # type: ignore[attr-defined]


@contextmanager
def worker(name: str, shared: socket.socket) -> Iterator[None]:
    """A loop of its own that serves a socket which others serve too."""
    loop, began = FairLoop(), threading.Event()
    sock, served = shared.dup(), list[Named]()

    async def serve() -> None:
        def named() -> Named:
            served.append(Named(name))
            return served[-1]

        server = await loop.create_server(named, sock=sock, backlog=64)
        began.set()
        await ended.wait()
        server.close()
        await server.wait_closed()
        for each in served:
            each.transport.close()
        await asyncio.sleep(0.05)

    ended = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert began.wait(10)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
        assert not thread.is_alive()
        loop.close()
        sock.close()


def ask(connection: socket.socket) -> str:
    connection.sendall(b"who")
    return connection.recv(10).decode()


def test_connections_are_shared_out_and_stay_where_they_are() -> None:
    with socket.socket() as shared:
        shared.bind(("127.0.0.1", 0))
        address = shared.getsockname()
        with worker("a", shared):
            with worker("b", shared):
                clients = [socket.create_connection(address, 10) for _ in range(16)]
                names = [ask(each) for each in clients]
                assert 2 <= names.count("a") <= 14, names
                assert [ask(each) for each in clients] == names
            later = socket.create_connection(address, 10)  # b takes no more
            assert ask(later) == "a"
            for each in (*clients, later):
                each.close()


def test_a_server_without_a_socket_is_as_ever() -> None:
    loop = FairLoop()

    async def once() -> str:
        server = await loop.create_server(lambda: Named("a"), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"who")
        name = (await reader.read(10)).decode()
        writer.close()
        server.close()
        return name

    try:
        assert loop.run_until_complete(once()) == "a"
    finally:
        loop.close()
