"""`bowstring sql` at its prompt, as a person has it."""

import re
import signal
import stat
import termios

import numpy
import pytest

from files import bowstring
from server import Server
from terminal import Terminal

PROMPT = "bowstring> "
ENTER, UP, CTRL_C, CTRL_D = "\r", "\x1b[A", "\x03", "\x04"


class Prompt(Terminal):
    """`bowstring sql`, which waits for a statement."""

    def __init__(self, uri, state, *words, columns=None):
        super().__init__(uri, "sql", *words, streams=["stdin", "stdout", "stderr"], state=state, columns=columns)
        self.until(PROMPT)

    def ask(self, text):
        """What it shows between a line and the next prompt."""
        self.shown = ""
        self.answer(text + ENTER)
        while not self.plain().endswith("\n" + PROMPT):
            self.more()
        return self.plain().partition("\n")[2]

    def told(self, text):
        """Waits until it has said this, and for the prompt behind it: what is typed before may be answered by that one."""
        while not self.plain().partition(text)[2].endswith("\n" + PROMPT):
            self.more()

    def plain(self):
        """What it shows, without what moves a cursor."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", self.shown)


@pytest.fixture
def loaded(server, namespace, tmp_path):
    """Three keys: `a`, `ab`, `b`."""
    numpy.save(tmp_path / "m.npy", numpy.zeros((3, 50), dtype="float32"))
    (tmp_path / "keys.txt").write_text("a\nab\nb\n")
    bowstring(server.uri, "load", "-n", namespace, tmp_path / "m.npy", "--keys", tmp_path / "keys.txt")


def test_statements_have_many_lines_and_errors_end_nothing(server, namespace, loaded, tmp_path):
    prompt = Prompt(server.uri, tmp_path)
    prompt.answer("SELECT key, value" + ENTER + f"FROM tensors WHERE namespace = '{namespace}'" + ENTER)
    assert "<50 x float32>" in prompt.ask("ORDER BY key;")
    assert "3 rows in " in prompt.shown
    told = prompt.ask("SELECT 6 * 7 AS x; SELECT nothing; SELECT 8 * 8 AS y;")
    assert "42" in told and "1 row in " in told and "invalid_argument: " in told and "64" not in told
    assert "no such command" in prompt.ask("\\nothing")
    assert "tensors" in prompt.ask("\\d") and "shape" in prompt.ask("\\d tensors")
    assert " in " not in prompt.ask("\\timing") + prompt.ask("SELECT 6 * 7 AS x;")
    assert "\\timing" in prompt.ask("help")
    prompt.answer("exit" + ENTER)
    assert prompt.end()[0] == 0


def test_what_is_wider_than_the_terminal_becomes_records(server, namespace, loaded, tmp_path):
    prompt = Prompt(server.uri, tmp_path, columns=60)
    everything = f"SELECT * FROM tensors WHERE namespace = '{namespace}';"
    assert "-- row 3" in prompt.ask(everything)
    prompt.ask("\\x off")
    assert "-- row" not in prompt.ask(everything)
    prompt.ask("\\x")
    assert "-- row 1" in prompt.ask("SELECT 1 AS x;")
    prompt.ask("\\x auto")
    assert "-- row" not in prompt.ask("SELECT 1 AS x;")
    prompt.answer(CTRL_D)
    assert prompt.end()[0] == 0


def test_ctrl_c_gives_a_statement_up_and_twice_at_the_prompt_leaves(server, tmp_path):
    prompt = Prompt(server.uri, tmp_path)
    prompt.shown = ""
    prompt.answer("SELECT count(*) FROM generate_series(1, 10000000) a, generate_series(1, 10000000) b;" + ENTER)
    # A terminal that makes signals of keys is none that a line is typed on.
    while not termios.tcgetattr(prompt.terminal)[3] & termios.ISIG:
        pass
    prompt.process.send_signal(signal.SIGINT)
    prompt.told("given up")
    assert "42" in prompt.ask("SELECT 6 * 7 AS x;")
    prompt.shown = ""
    prompt.answer("SELECT nothing that is run" + CTRL_C)
    prompt.told("Ctrl-C again leaves")
    assert "42" in prompt.ask("SELECT 6 * 7 AS x;"), "what was typed before is gone"
    prompt.shown = ""
    prompt.answer(CTRL_C)
    prompt.until("Ctrl-C again leaves")
    # It is a key again once a line is typed.
    while termios.tcgetattr(prompt.terminal)[3] & termios.ISIG:
        pass
    prompt.answer(CTRL_C)
    assert prompt.end()[0] == 130


def test_statements_are_found_again_by_their_user_only(server, tmp_path):
    prompt = Prompt(server.uri, tmp_path)
    assert "42" in prompt.ask("SELECT 6" + ENTER + "* 7 AS x;")
    assert "81" in prompt.ask(" SELECT 9 * 9 AS secret;")
    prompt.answer("\\q" + ENTER)
    assert prompt.end()[0] == 0
    history = tmp_path / "bowstring" / "sql_history"
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (history.parent, history)]
    assert modes == [0o700, 0o600]
    assert "secret" not in history.read_text()
    again = Prompt(server.uri, tmp_path)
    assert "42" in again.ask(UP + UP)
    again.answer(CTRL_D)
    assert again.end()[0] == 0


def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(server, tmp_path):
    (tmp_path / "bowstring").write_text("a file")
    prompt = Prompt(server.uri, tmp_path)
    assert "42" in prompt.ask("SELECT 6 * 7 AS x;")
    assert "42" in prompt.ask(UP), "it is remembered for this time"
    prompt.answer(CTRL_D)
    assert prompt.end()[0] == 0


def test_tab_completes_keywords_and_tables(server, tmp_path):
    prompt = Prompt(server.uri, tmp_path)
    assert "42" in prompt.ask("selec\t 6 * 7 AS x;")
    # The server is asked for names meanwhile.
    while "60000ms" not in prompt.ask("SELECT value FROM sett\t WHERE name = 'put_idle';"):
        assert "sett" in prompt.shown and "invalid_argument: " in prompt.shown
    prompt.answer(CTRL_D)
    assert prompt.end()[0] == 0


def test_a_server_that_went_away_is_said_and_asked_again(tmp_path):
    address = f"unix:{tmp_path}/b.sock"
    with Server(listen=[address], memory="64MiB"):
        prompt = Prompt(address, tmp_path)
        assert "42" in prompt.ask("SELECT 6 * 7 AS x;")
    assert "broke" in prompt.ask("SELECT 6 * 7 AS x;")
    with Server(listen=[address], memory="64MiB"):
        while "42" not in prompt.ask("SELECT 6 * 7 AS x;"):
            assert "broke" in prompt.shown
        prompt.answer(CTRL_D)
        assert prompt.end()[0] == 0
