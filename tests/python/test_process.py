"""The process: flags, health and metrics over HTTP, the end on a signal."""

import signal
import urllib.request

import pyarrow.flight as flight
import pytest

from calls import PATIENCE, act, path, put, ticket
from server import Server
from tensors import sample, table_of

ARRAY = sample("float32", (300, 1000))


def test_health_and_metrics(server, client, namespace):
    with urllib.request.urlopen(f"{server.http}/healthz") as answer:
        assert answer.status == 200
    put(client, path(namespace, "a"), table_of(ARRAY))
    with urllib.request.urlopen(f"{server.http}/metrics") as answer:
        text = answer.read().decode()
    assert answer.status == 200 and "bowstring_" in text


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0(sent):
    running = Server()
    running.process.send_signal(sent)
    assert running.process.wait() == 0 and running.stop() == 0


def test_a_get_that_has_begun_is_finished_after_sigterm():
    running = Server()
    with flight.connect(running.uri) as client:
        put(client, path("a"), table_of(ARRAY))
        reader = client.do_get(ticket(key="a", max_message_bytes=10_000), PATIENCE)
        first = reader.read_chunk().data
        running.process.send_signal(signal.SIGTERM)
        rest = reader.read_all()
        assert first.num_rows + rest.num_rows == 300
    # A second signal, while it still drains, would end it at once.
    assert running.process.wait() == 0 and running.stop() == 0


@pytest.mark.parametrize(
    "flags", [["--colour", "red"], ["--memory", "lots"], ["--memory", "1MiB", "--listen", "nowhere"]], ids=str
)
def test_flags_that_are_none(flags):
    with pytest.raises(RuntimeError) as caught:
        Server(*flags)
    assert flags[0] in str(caught.value) or flags[-1] in str(caught.value)


def test_two_servers_never_share_a_version():
    versions = set()
    for _ in range(2):
        with Server() as running, flight.connect(running.uri) as client:
            versions.add(put(client, path("a"), table_of(ARRAY))["version"])
            assert act(client, "exists", keys=["a"])["leading"] == 1
    assert len(versions) == 2
