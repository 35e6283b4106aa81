"""A terminal for `bowstring` to run on."""

import codecs
import os
import pty
import select
import subprocess
import termios

from server import binary

PATIENCE_S = 60


class Terminal:
    """`bowstring` with those of its streams at a terminal that are named; the others are pipes."""

    def __init__(self, uri, *words, streams, state=None, columns=None):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BOWSTRING_")}
        clean |= {"TERM": "xterm", "COLUMNS": "120"}
        if state is not None:
            clean["XDG_STATE_HOME"] = str(state)
        self.terminal, theirs = pty.openpty()
        if columns is not None:
            termios.tcsetwinsize(theirs, (24, columns))
        pipes = {name: theirs if name in streams else subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
        command = [str(word) for word in (binary(), *words, "--endpoint", uri)]
        self.process = subprocess.Popen(command, env=clean, **pipes)
        os.close(theirs)
        self.shown, self.decoder = "", codecs.getincrementaldecoder("utf-8")()

    def until(self, text):
        """Reads what it shows until `text` is there, or, with None, until it shows no more."""
        while text is None or text not in self.shown:
            if not self.more():
                assert text is None, f"it ended without {text!r}: {self.shown!r}"
                return

    def more(self):
        """Reads what it shows next; whether there is more to come."""
        ready, _, _ = select.select([self.terminal], [], [], PATIENCE_S)
        assert ready, f"it shows no more: {self.shown!r}"
        try:
            read = os.read(self.terminal, 1 << 16)
        except OSError:  # all that had it open are gone
            read = b""
        self.shown += self.decoder.decode(read)
        return bool(read)

    def answer(self, text):
        os.write(self.terminal, text.encode())

    def end(self):
        """Its exit code, and what came by the pipes."""
        self.until(None)
        out, err = self.process.communicate(timeout=PATIENCE_S)
        os.close(self.terminal)
        return self.process.returncode, (out or b"").decode(), (err or b"").decode()
