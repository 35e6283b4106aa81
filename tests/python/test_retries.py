"""examples/with_retries.py: what passes is tried again, what does not is told at once, with its row."""

import threading
import time

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import with_retries
from calls import act, command, get, put
from server import Server
from tensors import sample
from test_bulk import bulk

ROWS = bulk([str(row) for row in range(1000)], sample("float32", (1000, 8)))


def test_a_server_that_comes_back_gets_the_rows(monkeypatch):
    """Killed under an open connection, and started again at the same address."""
    monkeypatch.setattr(with_retries, "WAITS_S", [0.1] * 200)
    with Server(memory="64MiB") as first:
        client = flight.connect(first.uri)
        assert with_retries.put_rows(client, ROWS, namespace="n")["stored"] == 1000
        address = first.uri.removeprefix("grpc://")
        assert first.stop() == 0
        replies = []
        putting = threading.Thread(target=lambda: replies.append(with_retries.put_rows(client, ROWS, namespace="n")))
        putting.start()
        time.sleep(0.5)
        assert not replies, "nobody is there to answer"
        with Server(listen=[address], memory="64MiB"):
            putting.join()
            assert replies[0]["stored"] == 1000
            assert get(client, namespace="n", prefix="").num_rows == 1000


def test_rows_for_which_there_is_room_later(monkeypatch):
    """A full server refuses rows, not the call: those that were stored are `existed` when the rest gets in."""
    monkeypatch.setattr(with_retries, "WAITS_S", [0.1] * 200)
    rows = bulk([str(row) for row in range(3000)], sample("float32", (3000, 2000)))
    with Server(memory="64MiB") as server, flight.connect(server.uri) as client:
        pinned = [f"p{row}" for row in range(3000)]
        put(client, command(namespace="pinned", pin=True), bulk(pinned, sample("float32", (3000, 2000))), rows_per_batch=100)
        load = act(client, "begin_load", namespace="n")["load_id"]
        refused = put(client, command(namespace="n", load_id=load), rows, rows_per_batch=100)
        assert refused["errors_total"] and {error["code"] for error in refused["errors"]} == {"resource_exhausted"}
        replies = []
        into = {"namespace": "n", "load_id": load}
        putting = threading.Thread(target=lambda: replies.append(with_retries.put_rows(client, rows, **into)))
        putting.start()
        act(client, "clear", namespace="pinned", confirm=True)
        putting.join()
        assert replies[0]["stored"] + replies[0]["existed"] == 3000 and replies[0]["existed"] >= refused["stored"]
        assert act(client, "commit_load", load_id=load)["entries"] == 3000


def test_a_bad_row_is_told_at_once(client, namespace, monkeypatch):
    monkeypatch.setattr(with_retries, "WAITS_S", [3600])
    lists = [[1.0, 2.0]] * 20
    lists[17] = [1.0]
    table = pa.table({"key": [f"k{row}" for row in range(20)], "tensor": lists})
    with pytest.raises(ValueError, match=r"1 rows were refused; the first: .*'row': 17, 'key': 'k17'.*length"):
        with_retries.put_rows(client, table, namespace=namespace)


def test_a_bad_request_is_told_at_once(client, monkeypatch):
    monkeypatch.setattr(with_retries, "WAITS_S", [3600])
    with pytest.raises(pa.ArrowInvalid, match="invalid_argument: .*colour"):
        with_retries.put_rows(client, ROWS, colour="red")
    with pytest.raises(pa.ArrowKeyError, match="not_found: "):
        with_retries.act(client, "commit_load", load_id="99-12345678")


def test_a_server_that_stays_away_is_told_after_the_last_try(monkeypatch):
    monkeypatch.setattr(with_retries, "WAITS_S", [0.01, 0.01])
    with pytest.raises(flight.FlightUnavailableError, match="unavailable"):
        with_retries.put_rows(flight.connect("grpc://127.0.0.1:1"), ROWS)


def test_actions_of_a_load_can_be_sent_again(client, namespace):
    load = with_retries.act(client, "begin_load", namespace=namespace)["load_id"]
    for _ in range(2):
        with_retries.put_rows(client, ROWS, namespace=namespace, load_id=load)
    for _ in range(2):
        assert with_retries.act(client, "commit_load", load_id=load)["entries"] == 1000


def test_a_load_of_a_server_that_was_started_anew_is_gone(monkeypatch):
    """Nothing of it may be seen half: the job that had begun it must fail."""
    monkeypatch.setattr(with_retries, "WAITS_S", [0.1] * 200)
    with Server(memory="64MiB") as first:
        client = flight.connect(first.uri)
        load = with_retries.act(client, "begin_load", namespace="n")["load_id"]
        with_retries.put_rows(client, ROWS, namespace="n", load_id=load)
        address = first.uri.removeprefix("grpc://")
        assert first.stop() == 0
        with Server(listen=[address], memory="64MiB"):
            with pytest.raises(pa.ArrowKeyError, match="not_found: "):
                with_retries.put_rows(client, ROWS, namespace="n", load_id=load)
            with pytest.raises(pa.ArrowKeyError, match="not_found: "):
                with_retries.act(client, "commit_load", load_id=load)
