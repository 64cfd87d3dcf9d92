"""permessage-deflate as Python's `websockets` and `wsproto` speak it: deflate.py SERVER…

Each library talks to each of the server programs: an echo, a room that newcomers enter at any time, a dashboard.
"""

import json
import random
import re
import socket
import subprocess
import sys
from contextlib import ExitStack

import websockets
import wsproto
from websockets.sync.client import connect
from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection, BytesMessage, Message, Ping, Request, TextMessage
from wsproto.extensions import PerMessageDeflate

WAIT = 10
FLAGS = "--chat-interval 0s --notice-limit 0 --deflate-restart 5 --metric-interval 50ms --log error".split()


class Websockets:
    """A client of `websockets`, which offers a window of 4 KiB."""

    name = f"websockets {websockets.__version__}"

    def __init__(self, address, path, deflate=True):
        compression = "deflate" if deflate else None
        self.stack = ExitStack()
        self.socket = self.stack.enter_context(connect(f"ws://{address}{path}", compression=compression, open_timeout=WAIT))
        self.compressed = bool(self.socket.protocol.extensions)

    def send(self, message):
        self.socket.send(message)

    def send_fragments(self, pieces):
        self.socket.send(iter(pieces))

    def receive(self):
        return self.socket.recv(timeout=WAIT)

    def close(self):
        self.stack.close()


class Wsproto:
    """A client of `wsproto`, on a socket of its own."""

    name = f"wsproto {wsproto.__version__}"

    def __init__(self, address, path, deflate=True):
        self.socket = socket.create_connection(address.split(":"), timeout=WAIT)
        self.connection = wsproto.WSConnection(ConnectionType.CLIENT)
        extensions = [PerMessageDeflate()] if deflate else []
        self._write(Request(host=address, target=path, extensions=extensions))
        accepted = self._next()
        assert isinstance(accepted, AcceptConnection), accepted
        self.compressed = bool(accepted.extensions)

    def _write(self, event):
        self.socket.sendall(self.connection.send(event))

    def _next(self):
        while True:
            for event in self.connection.events():
                if isinstance(event, Ping):
                    self._write(event.response())
                else:
                    return event
            data = self.socket.recv(65536)
            assert data, "the server ended the connection"
            self.connection.receive_data(data)

    def send(self, message):
        self._write(TextMessage(message) if isinstance(message, str) else BytesMessage(message))

    def send_fragments(self, pieces):
        for piece in pieces:
            self._write(Message(piece, message_finished=False))
        self._write(Message(type(pieces[0])(), message_finished=True))

    def receive(self):
        parts = []
        while True:
            event = self._next()
            assert isinstance(event, Message), event
            parts.append(event.data)
            if event.message_finished:
                return type(event.data)().join(map(type(event.data), parts))

    def close(self):
        self.socket.close()


def echo(library, address):
    client = library(address, "/ws/echo")
    assert client.compressed
    noise = random.Random(1).randbytes(60_000)
    for message in ["", "Hello", "Chào 🌊, " * 3000, b"", b"\xff\x00" * 20_000, noise]:
        client.send(message)
        assert client.receive() == message
    for pieces in [["Chào ", "🌊, ", "x" * 10_000], [b"\xff", b"", noise[:30_000]]]:
        client.send_fragments(pieces)
        assert client.receive() == type(pieces[0])().join(pieces)
    client.close()


def room(library, address):
    """Members come between messages, with compression and without; some leave."""

    def chat(client):
        while True:
            message = json.loads(client.receive())
            if message["type"] == "chat":
                return message

    def heard(client, first, end):
        for number in range(first, end):
            assert chat(client)["text"] == text(number)
        client.close()

    def text(number):
        return f"message {number} of eighty, much like all the others"

    speaker = library(address, "/ws/chat", deflate=False)
    members = []
    for number in range(80):
        if number % 2 == 0:
            newcomer = library(address, "/ws/chat", deflate=number % 6 != 0)
            assert newcomer.compressed == (number % 6 != 0)
            assert json.loads(newcomer.receive())["code"] == "welcome"
            members.append((newcomer, number))
        if number % 10 == 9:
            member, first = members.pop(number % len(members))
            heard(member, first, number)
        if number % 3 == 0:
            members[0][0].send("no JSON")  # Its answer goes plain, between compressed messages.
        speaker.send(json.dumps({"type": "chat", "name": "Alice", "text": text(number)}))
        assert chat(speaker)["text"] == text(number)
    for member, first in members:
        heard(member, first, 80)
    speaker.close()


def dashboard(library, address):
    watcher = library(address, "/ws/dashboard")
    assert watcher.compressed
    assert json.loads(watcher.receive())["code"] == "welcome"
    for _ in range(4):
        for metric in ("temperature", "stock", "cpu"):
            assert json.loads(watcher.receive())["metric"] == metric
    watcher.close()


def main():
    for program in sys.argv[1:]:
        server = subprocess.Popen([program, "--bind", "127.0.0.1:0", *FLAGS], stdout=subprocess.PIPE, text=True)
        try:
            address = next(found[1] for line in server.stdout if (found := re.match(r"listening on http://(\S+)", line)))
            for library in (Websockets, Wsproto):
                for scenario in (echo, room, dashboard):
                    scenario(library, address)
                print(f"ok: {library.name} with {program.rsplit('/', 1)[-1]}")
        finally:
            server.terminate()
            server.wait(WAIT)


main()
