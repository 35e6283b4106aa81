"""A Unix socket beside TCP: two ways into one cache."""

import tempfile

import pyarrow.flight as flight
import pytest

from calls import get, path, put
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
        with (
            flight.connect(f"grpc+unix://{directory}/s", generic_options=AUTHORITY) as near,
            flight.connect(tcp) as far,
        ):
            put(near, path("a"), table_of(ARRAY))
            assert same(array_of(get(near, key="a")), ARRAY)
            assert same(array_of(get(far, key="a")), ARRAY)
