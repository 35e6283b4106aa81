"""400,000 real embeddings in one bulk put; by word, by batch and by prefix they equal the source bit for bit."""

import numpy as np
import pytest

import glove
from calls import act, chunks, command, get, put
from tensors import array_of, same, values_of
from test_bulk import bulk


@pytest.fixture(scope="module")
def words():
    return glove.words()


@pytest.fixture(scope="module")
def vectors():
    return glove.vectors()


@pytest.fixture(scope="module")
def stored(client, words, vectors):
    reply = put(client, command(namespace="glove"), bulk(words, vectors), rows_per_batch=16_384)
    assert (reply["stored"], reply["existed"], reply["errors_total"]) == (400_000, 0, 0)
    assert reply["bytes"] == vectors.nbytes == 80_000_000
    return {word: row for row, word in enumerate(words)}


def test_by_word(client, stored, vectors):
    for word in ["the", "king", "queen", "naïve", "東京", "1.2", "'s", "..."]:
        if word in stored:
            assert same(array_of(get(client, namespace="glove", key=word)), vectors[stored[word]])


def test_by_word_all_over_the_table(client, stored, words, vectors):
    for row in np.random.default_rng(3).integers(0, len(words), 500):
        assert same(array_of(get(client, namespace="glove", key=words[row])), vectors[row])


def test_by_batch(client, stored, words, vectors):
    for start in range(0, 400_000, 10_000):
        rows = np.random.default_rng(start).permutation(np.arange(start, start + 10_000))
        table = get(client, namespace="glove", keys=[words[row] for row in rows])
        assert table["key"].to_pylist() == [words[row] for row in rows]
        assert same(values_of(table["tensor"]).reshape(-1, 50), vectors[rows])


def test_by_batch_with_missing_words(client, stored, vectors):
    _, messages = chunks(client, namespace="glove", keys=["king", "no such word", "queen"])
    assert messages[-1][1] == {"missing": ["no such word"]}
    rows = np.concatenate([values_of(batch.column("tensor")) for batch, told in messages if not told])
    assert same(rows.reshape(-1, 50), vectors[[stored["king"], stored["queen"]]])


@pytest.mark.parametrize("prefix", ["king", "un", "é", "1", ""])
def test_by_prefix(client, stored, words, vectors, prefix):
    expected = sorted((word for word in words if word.startswith(prefix)), key=str.encode)
    table = get(client, namespace="glove", prefix=prefix, dtype="float32", shape=[50])
    assert table["key"].to_pylist() == expected
    assert same(values_of(table["tensor"]).reshape(-1, 50), vectors[[stored[word] for word in expected]])


def test_by_prefix_opaque(client, stored, vectors):
    table = get(client, namespace="glove", prefix="queen")
    for row in table.to_pylist():
        assert (row["dtype"], row["shape"]) == ("float32", [50])
        assert row["data"] == vectors[stored[row["key"]]].tobytes()


def test_the_same_words_again(client, stored, words, vectors):
    reply = put(client, command(namespace="glove"), bulk(words[:50_000], vectors[:50_000]), rows_per_batch=16_384)
    assert (reply["stored"], reply["existed"]) == (0, 50_000)


def test_all_are_there(client, stored, words):
    assert act(client, "exists", namespace="glove", keys=words[:100_000])["leading"] == 100_000
