"""A service manager keeps memory while the server is started again: one that speaks systemd's protocol, as far as the server does."""

import contextlib
import ctypes
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import threading
import urllib.request

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as pq
import pytest

from calls import command, get, put
from server import WORK, binary
from tensors import array_of, same, table_of

FIRST, KEYS, MEMORY = 3, 60, 64 << 20


class Manager:
    """Keeps what it is given, and gives it to each process that it starts: as descriptors from 3 on."""

    def __init__(self, folder, keeps=1_000):
        self.address, self.keeps = folder / "notify", keeps
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.address))
        self.kept, self.said, self.heard = [], [], threading.Condition()
        self.listening = threading.Thread(target=self.listen)
        self.listening.start()

    def listen(self):
        while True:
            lines, files, _, _ = socket.recv_fds(self.socket, 4_096, 16)
            for file in files:
                os.set_inheritable(file, False)
            said = dict(line.split("=", 1) for line in lines.decode().splitlines())
            with self.heard:
                if "FDSTORE" in said:
                    self.kept += [(said["FDNAME"], file) for file in files]
                    files = []
                elif "FDSTOREREMOVE" in said:
                    for one in [one for one in self.kept if one[0] == said["FDNAME"]]:
                        self.kept.remove(one)
                        os.close(one[1])
                for file in files:
                    os.close(file)
                self.said.append(lines.decode())
                self.heard.notify_all()
            if "END" in said:
                return

    def wait_until_said(self, line):
        with self.heard:
            assert self.heard.wait_for(lambda: line in self.said, timeout=240), self.said

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"END=1", str(self.address))
        self.listening.join()
        self.socket.close()
        for _, file in self.kept:
            os.close(file)


class Service:
    """A server that a manager starts."""

    def __init__(self, manager, *flags, starts=True):
        WORK.mkdir(exist_ok=True)
        self.log = tempfile.NamedTemporaryFile(dir=WORK, prefix="service-", suffix=".log", delete=False)
        given = list(manager.kept)
        with manager.heard:
            manager.said.clear()

        def put_in_place():
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
            # First out of the way: some may lie in others' places.
            aside = [os.dup2(file, 600 + at, inheritable=False) for at, (_, file) in enumerate(given)]
            for at, file in enumerate(aside):
                os.dup2(file, FIRST + at)

        environment = {name: value for name, value in os.environ.items() if not name.startswith("BOWSTRING_")}
        environment |= {"NOTIFY_SOCKET": str(manager.address), "FDSTORE": str(manager.keeps)}
        if given:
            names = ":".join(name for name, _ in given)
            environment |= {"LISTEN_FDS": str(len(given)), "LISTEN_FDNAMES": names}
        command = [binary(), "serve", "--http", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--memory", MEMORY, *flags]
        # Only the process itself knows its id before it starts.
        self.process = subprocess.Popen(
            ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *(str(word) for word in command)],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=environment,
            preexec_fn=put_in_place,
            close_fds=False,
        )
        if not starts:
            return
        self.uri, self.http = (self.process.stdout.readline().split()[1] for _ in range(2))
        manager.wait_until_said("READY=1")

    def stderr(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")

    def end(self, signal_number=signal.SIGTERM):
        self.process.send_signal(signal_number)
        return self.ended(0 if signal_number == signal.SIGTERM else -signal_number)

    def ended(self, expected):
        code = self.process.wait(timeout=240)
        self.process.stdout.close()
        self.log.close()
        said = self.stderr()
        pathlib.Path(self.log.name).unlink()
        assert "panicked" not in said, said
        assert code == expected, said
        return said

    def metric(self, name):
        with urllib.request.urlopen(f"{self.http}/metrics") as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + " ", name + "{")))


def tensors(seed):
    draw = np.random.default_rng(seed)
    return {f"{key}": draw.integers(0, 255, (key * 997 % 400 + 1, 300), np.uint8) for key in range(KEYS)}


def put_all(service, wanted):
    with flight.connect(service.uri) as client:
        for key, values in wanted.items():
            put(client, command(key=key, mode="replace"), table_of(values))


def all_there(service, wanted):
    with flight.connect(service.uri) as client:
        for key, values in wanted.items():
            assert same(array_of(get(client, key=key)), values), key


def service_files(service):
    """The files in memory that a process has descriptors of."""
    links = []
    for file in pathlib.Path(f"/proc/{service.process.pid}/fd").iterdir():
        # A connection that ended may have gone meanwhile.
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(file))
    return [link for link in links if "memfd:bowstring" in link]


@pytest.mark.parametrize("with_cold", [False, True])
def test_memory_is_there_when_the_server_is_started_again(with_cold):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        cold = ["--cold", f"file://{folder}/store", "--state-dir", folder / "state"] if with_cold else []
        with Manager(folder) as manager:
            wanted = tensors(1)
            service = Service(manager, *cold)
            put_all(service, wanted)
            for _ in range(3):
                regions = len(service_files(service))
                used = service.metric("bowstring_arena_used_bytes")
                said = service.end()
                (line,) = (line for line in said.splitlines() if "the service manager keeps" in line)
                assert f"entries={KEYS} " in line
                assert "STOPPING=1" in manager.said
                assert len(manager.kept) == regions + 1
                service = Service(manager, *cold)
                (line,) = (line for line in service.stderr().splitlines() if "taken over" in line)
                assert f"entries={KEYS} " in line and "mismatched=0 refused=0 evicted=0 " in line
                assert manager.kept == [], "it holds no memory that nobody needs"
                # Nor does the process: a descriptor of each region, and none of the snapshot.
                assert len(service_files(service)) == regions
                assert service.metric("bowstring_arena_used_bytes") == used
                assert service.metric("bowstring_memory_used_bytes") <= MEMORY
                all_there(service, wanted)
                wanted |= {"3": np.full((5, 300), 7, np.uint8)}
                put_all(service, {"3": wanted["3"]})
            service.end()


def test_a_server_that_is_killed_leaves_nothing():
    with tempfile.TemporaryDirectory() as folder, Manager(pathlib.Path(folder)) as manager:
        service = Service(manager)
        put_all(service, tensors(2))
        service.end(signal.SIGKILL)
        assert manager.kept == []
        service = Service(manager)
        assert service.metric("bowstring_entries") == 0
        put_all(service, tensors(3))
        service.end()
        # Killed once it has begun to change what it took over: what the manager still has is refused.
        kept = [(name, os.dup(file)) for name, file in manager.kept]
        service = Service(manager)
        assert service.metric("bowstring_entries") == KEYS
        service.end(signal.SIGKILL)
        manager.kept += kept
        service = Service(manager)
        assert "taken over before" in service.stderr()
        assert service.metric("bowstring_entries") == 0
        assert manager.kept == []
        service.end()


def test_a_start_that_cannot_attach_files_leaves_what_is_kept():
    with tempfile.TemporaryDirectory() as folder, Manager(pathlib.Path(folder)) as manager:
        folder = pathlib.Path(folder).resolve()
        words = pa.table({"key": ["a"], "tensor": pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))})
        pq.write_table(words, folder / "words.parquet")
        settings = folder / "bowstring.toml"
        settings.write_text(f'[attach."default"]\nfiles = ["{folder}/words.parquet"]\n')
        wanted = tensors(5)
        service = Service(manager)
        put_all(service, wanted)
        service.end()
        kept = len(manager.kept)
        assert kept > 0
        refused = Service(manager, "--load-roots", folder, "--config", settings, starts=False)
        said = refused.ended(2)
        assert "namespace=`default`" in said and "empty" in said
        assert len(manager.kept) == kept
        service = Service(manager)
        all_there(service, wanted)
        service.end()


def test_a_manager_that_keeps_too_few_is_told_of():
    with tempfile.TemporaryDirectory() as folder, Manager(pathlib.Path(folder), keeps=2) as manager:
        service = Service(manager)
        put_all(service, tensors(4))
        assert "FileDescriptorStoreMax" in service.end()
        assert manager.kept == []
