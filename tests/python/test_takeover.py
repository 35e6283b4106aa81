"""A server is replaced by a successor, with its memory, while PyArrow clients put and get: who tries again sees no failure."""

import pathlib
import tempfile
import threading

import numpy as np
import pyarrow.flight as flight

import with_retries
from calls import PATIENCE, get, ticket
from server import Server
from test_bulk import bulk

CLIENTS, UPGRADES, KEYS, LENGTH, ROUNDS_BETWEEN = 3, 3, 40, 2_000, 5


def rows(client, round):
    """A tensor for each of the client's keys, which says whose it is and of which round."""
    values = np.full((KEYS, LENGTH), round, np.int32)
    values[:, 0] = client
    return bulk([f"{client}-{key}" for key in range(KEYS)], values)


class Client(threading.Thread):
    """Replaces all its keys, reads them, compares, and again, until it is told to stop; a call at a time."""

    def __init__(self, uri, number):
        super().__init__(name=f"client {number}")
        self.uri, self.number, self.rounds, self.failure = uri, number, 0, None
        self.stopping, self.went_on = threading.Event(), threading.Condition()

    def run(self):
        try:
            with flight.connect(self.uri) as client:
                while not self.stopping.is_set():
                    self.once(client)
                    with self.went_on:
                        self.rounds += 1
                        self.went_on.notify_all()
        except BaseException as failure:
            with self.went_on:
                self.failure = failure
                self.went_on.notify_all()

    def once(self, client):
        table = rows(self.number, self.rounds)
        reply = with_retries.put_rows(client, table, namespace="n", mode="replace")
        assert reply["stored"] == KEYS, reply
        wanted = ticket(namespace="n", keys=table["key"].to_pylist())
        got = with_retries.retried(lambda: client.do_get(wanted, PATIENCE).read_all())
        assert got["tensor"].to_pylist() == table["tensor"].to_pylist(), f"round {self.rounds}"

    def goes_on(self):
        """Waits for some rounds more, or for what it failed of."""
        with self.went_on:
            goal = self.rounds + ROUNDS_BETWEEN
            assert self.went_on.wait_for(lambda: self.failure or self.rounds >= goal, timeout=240)
        if self.failure:
            raise self.failure


def test_pyarrow_clients_that_try_again_see_no_failure(monkeypatch):
    monkeypatch.setattr(with_retries, "WAITS_S", [0.05] * 400)
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--takeover", pathlib.Path(folder) / "takeover"]
        server = Server(*flags, memory="64MiB")
        clients = [Client(server.uri, number) for number in range(CLIENTS)]
        try:
            for client in clients:
                client.start()
            for _ in range(UPGRADES):
                for client in clients:
                    client.goes_on()
                before, server = server, Server(*flags, memory="64MiB")
                with before:
                    assert before.process.wait(timeout=60) == 0
                assert (server.uri, server.http) == (before.uri, before.http)
                assert "taken over" in server.stderr()
            for client in clients:
                client.goes_on()
        finally:
            for client in clients:
                client.stopping.set()
            for client in clients:
                client.join()
            with server:
                with flight.connect(server.uri) as last:
                    assert get(last, namespace="n", prefix="").num_rows == CLIENTS * KEYS
        assert [client.failure for client in clients] == [None] * CLIENTS
