"""A put that is refused early shows the user our sentence, however the user goes on."""

import pytest

from calls import PATIENCE, command, path, put, refused
from tensors import sample, table_of


def refusal(client, where, table, how):
    """Puts until it is refused, as a user might: closing at once, writing on, or asking for the result."""
    writer, replies = client.do_put(where, table.schema, PATIENCE)
    if how == "close":
        writer.close()
    elif how == "write":
        with writer:
            for _ in range(200):
                writer.write_table(table)
            writer.done_writing()
    elif how == "read":
        with writer:
            assert replies.read() is None
    elif how == "done":
        with writer:
            writer.write_table(table)
            writer.done_writing()
            replies.read()


@pytest.mark.parametrize("how", ["close", "write", "read", "done"])
@pytest.mark.parametrize("size", [1, 20_000])
def test_an_early_refusal_of_a_put_reaches_the_user(client, namespace, how, size):
    table = table_of(sample("float64", (size, 4)))
    with refused("invalid_argument", "colour"):
        refusal(client, command(namespace=namespace, key="a", colour="red"), table, how)


@pytest.mark.parametrize("how", ["close", "write", "read", "done"])
def test_a_refusal_for_want_of_room_reaches_the_user(fresh_client, how):
    table = table_of(sample("float64", (20_000, 4)))
    with refused("resource_exhausted", "memory"):
        refusal(fresh_client, command(key="a", size_bytes=1 << 40), table, how)


@pytest.mark.parametrize("how", ["write", "done"])
def test_a_refusal_that_the_first_message_does_not_show(client, namespace, how):
    table = table_of(sample("float64", (20_000, 4)), {"tensor.shape": "[3]"})
    with refused("invalid_argument", "tensor.shape"):
        refusal(client, path(namespace, "a"), table, how)


def test_a_key_that_is_taken_is_refused_before_the_body(client, namespace):
    put(client, path(namespace, "a"), table_of(sample("float32", (4, 3))))
    other = table_of(sample("int8", (3, 3)))
    with refused("already_exists", "`a`"):
        put(client, path(namespace, "a"), other)
