"""A real `bowstring serve` on free ports, stopped by its own process id."""

import ctypes
import os
import pathlib
import signal
import subprocess
import tempfile

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
WORK = REPOSITORY / "tests" / ".work"


def binary():
    """The server that `tests/run` built; `BOWSTRING_BIN` names another one."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    return pathlib.Path(os.environ.get("BOWSTRING_BIN", target / "debug" / "bowstring"))


def end_with_the_tests():
    """Runs in the child: the kernel kills it when its parent dies, however that comes about."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Server:
    """Starts on construction and returns once the server has said that it is ready.

    `flights` are the Flight addresses and `http` the other one, as the server printed them.
    """

    def __init__(self, *flags, listen=("127.0.0.1:0",), memory="1GiB"):
        WORK.mkdir(exist_ok=True)
        self.log = tempfile.NamedTemporaryFile(dir=WORK, prefix="server-", suffix=".log", delete=False)
        command = [binary(), "serve", "--http", "127.0.0.1:0", "--memory", memory, *flags]
        for address in listen:
            command += ["--listen", address]
        # Settings of whoever runs the tests must not reach the server under test.
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BOWSTRING_")}
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=clean,
            preexec_fn=end_with_the_tests,
        )
        self.flights, self.http = [], None
        while len(self.flights) < len(listen) or self.http is None:
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(f"the server ended before it was ready:\n{self.stderr()}")
            name, _, address = line.strip().partition(" ")
            if name == "flight":
                self.flights.append(address)
            elif name == "http":
                self.http = address

    @property
    def uri(self):
        return self.flights[0]

    def stderr(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")

    def stop(self):
        """SIGTERM to this one process; gives its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait()
        self.process.stdout.close()
        self.log.close()
        return code

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        code = self.stop()
        if raised[0] is None:
            assert code == 0, f"exit code {code}:\n{self.stderr()}"
            assert "panicked" not in self.stderr(), self.stderr()
        pathlib.Path(self.log.name).unlink(missing_ok=True)
