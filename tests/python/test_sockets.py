"""Unix sockets beside TCP, readiness, health and metrics over HTTP, and the end on SIGTERM."""

import signal
import tempfile
import urllib.request

import pyarrow.flight as flight
import pytest

from calls import PATIENCE, act, get, path, put, ticket
from server import Server
from tensors import array_of, same, sample, table_of

ARRAY = sample("float32", (300, 1000))
#: gRPC C++ sends an authority over a Unix socket that HTTP/2 servers refuse.
AUTHORITY = [("grpc.default_authority", "localhost")]


@pytest.fixture
def directory():
    # Short: a Unix socket's path has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="bow") as name:
        yield name


def test_a_unix_socket_and_tcp_are_one_cache(directory):
    with Server(listen=(f"unix:{directory}/s", "127.0.0.1:0")) as running:
        (tcp,) = [address for address in running.flights if address.startswith("grpc://")]
        with flight.connect(f"grpc+unix://{directory}/s", generic_options=AUTHORITY) as near, flight.connect(tcp) as far:
            put(near, path("a"), table_of(ARRAY))
            assert same(array_of(get(near, key="a")), ARRAY)
            assert same(array_of(get(far, key="a")), ARRAY)


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
    assert running.stop() == 0


@pytest.mark.parametrize("flags", [["--colour", "red"], ["--memory", "lots"], ["--memory", "1MiB", "--listen", "nowhere"]], ids=str)
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
