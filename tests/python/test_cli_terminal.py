"""`bowstring` as a person has it: a terminal to ask on and to draw on, which gets no bytes."""

import re
import subprocess

import numpy
import pytest

from files import bowstring
from server import binary
from terminal import PATIENCE_S, Terminal

@pytest.fixture
def loaded(server, namespace, tmp_path):
    """Three keys: `a`, `ab`, `b`."""
    numpy.save(tmp_path / "m.npy", numpy.zeros((3, 4), dtype="float32"))
    (tmp_path / "keys.txt").write_text("a\nab\nb\n")
    bowstring(server.uri, "load", "-n", namespace, tmp_path / "m.npy", "--keys", tmp_path / "keys.txt")


@pytest.mark.parametrize("words", [("get", "a"), ("export",), ("export", "--format", "npz")], ids="-".join)
def test_tensors_are_not_shown_to_people(server, namespace, loaded, words):
    run = Terminal(server.uri, *words, "-n", namespace, streams=["stdout"])
    code, _, told = run.end()
    assert (code, run.shown) == (2, "")
    assert "no bytes for a terminal" in told and "bowstring info" in told


def keys(uri, namespace):
    return bowstring(uri, "ls", "-n", namespace, "--keys").decode().split()


def test_what_cannot_be_undone_is_asked_for_and_y_is_the_answer(server, namespace, loaded):
    for answer, code, told, left in [("n\n", 1, "", ["a", "ab", "b"]), ("\n", 1, "", ["a", "ab", "b"]), ("y\n", 0, "2 keys deleted\n", ["b"])]:
        run = Terminal(server.uri, "rm", "--prefix", "a", "-n", namespace, streams=["stdin", "stderr"])
        run.until("[y/N]")
        assert keys(server.uri, namespace) == ["a", "ab", "b"], "nothing goes before the answer"
        run.answer(answer)
        assert run.end()[:2] == (code, told), run.shown
        assert keys(server.uri, namespace) == left
    run = Terminal(server.uri, "clear", namespace, streams=["stdin", "stderr"])
    run.until("[y/N]")
    run.answer("yes\n")
    assert run.end()[0] == 0
    assert keys(server.uri, namespace) == []


def rows(path, count, values):
    numpy.save(path / "m.npy", numpy.zeros((count, values), dtype="float32"))
    (path / "keys.txt").write_text("".join(f"k{row}\n" for row in range(count)))
    return "load", path / "m.npy", "--keys", path / "keys.txt"


def test_a_load_draws_a_bar(server, namespace, tmp_path):
    run = Terminal(server.uri, *rows(tmp_path, 4000, 4096), "-n", namespace, "--json", streams=["stderr"])
    code, told, _ = run.end()
    assert code == 0 and '"stored":4000' in told
    assert re.search(r"\d+ %  [\d,]+ of 4,000 rows .* rows/s, .* MiB/s .* left", run.shown), run.shown
    quiet = Terminal(server.uri, *rows(tmp_path, 4, 4), "-n", namespace, "--quiet", streams=["stderr"])
    assert quiet.end()[0] == 0 and quiet.shown == ""


def test_where_there_is_no_terminal_lines_say_how_far_it_is(server, namespace, tmp_path):
    words = [str(word) for word in (binary(), *rows(tmp_path, 4000, 1024), "-n", namespace, "--endpoint", server.uri)]
    done = subprocess.run([*words, "--progress-every", "0s"], capture_output=True, timeout=PATIENCE_S, check=True)
    lines = re.findall(r"^bowstring: (\d+) of 4000 rows, \d+ rows/s, [\d.]+ MiB/s$", done.stderr.decode(), re.MULTILINE)
    through = [int(rows) for rows in lines]
    assert through == sorted(through) and through[-1] == 4000
    assert len(set(through)) > 4, "it tells of messages that are on their way within the one put that this is"
    # By itself a line comes every ten seconds, which this does not take; the flag is no part of the contract.
    usual = subprocess.run([*words, "--restart"], capture_output=True, timeout=PATIENCE_S, check=True)
    assert b"rows/s" not in usual.stderr
