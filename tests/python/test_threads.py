"""Several callers at once, on one connection and on their own: every reader sees a whole tensor."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.flight as flight

from calls import command, get, path, put
from tensors import array_of, table_of

CALLERS = 8


def test_each_its_own_keys(server, client, namespace):
    def work(caller):
        with flight.connect(server.uri) as own:
            for turn in range(20):
                array = np.full((100, turn + 1), caller * 1000 + turn, "int32")
                put(own, path(namespace, f"{caller}.{turn}"), table_of(array), rows_per_batch=30)
                assert np.array_equal(array_of(get(client, namespace=namespace, key=f"{caller}.{turn}")), array)

    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(work, range(CALLERS)))
    assert len(get(client, namespace=namespace, prefix="")) == CALLERS * 20


def test_readers_of_a_key_that_is_replaced_see_one_tensor_or_the_other(client, namespace):
    where = command(namespace=namespace, key="a", mode="replace")
    put(client, where, table_of(np.zeros((64, 10_000), "int32")))

    def write(caller):
        for turn in range(10):
            put(client, where, table_of(np.full((64, 10_000), caller * 100 + turn, "int32")), rows_per_batch=7)

    def read(caller):
        seen = [array_of(get(client, namespace=namespace, key="a", max_message_bytes=1 << 17)) for _ in range(30)]
        assert all((array == array[0, 0]).all() for array in seen)

    with ThreadPoolExecutor(CALLERS) as pool:
        tasks = [pool.submit(write if caller % 2 else read, caller) for caller in range(CALLERS)]
        for task in tasks:
            task.result()


def test_one_of_many_creates_wins(client, namespace):
    def create(caller):
        try:
            return put(client, path(namespace, "a"), table_of(np.full(1000, caller)))["stored"]
        except Exception as error:
            assert "already_exists: " in str(error)
            return 0

    with ThreadPoolExecutor(CALLERS) as pool:
        stored = list(pool.map(create, range(CALLERS)))
    assert sum(stored) == 1
    assert (array_of(get(client, namespace=namespace, key="a")) == stored.index(1)).all()
