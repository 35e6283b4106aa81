"""Fixtures: one server for most tests, a namespace for each test, fresh servers where memory is looked at."""

import os
import re
import subprocess
import sys
import pathlib
import tempfile

import pyarrow.flight as flight
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from server import REPOSITORY, WORK, Server  # noqa: E402

# What the examples import stands beside them.
EXAMPLES = REPOSITORY / "examples"
sys.path.append(str(EXAMPLES))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A test of one dtype that has passed says so to whoever looks whether the table of docs/clients is true."""
    outcome = yield
    report = outcome.get_result()
    dtype = getattr(item, "callspec", None) and item.callspec.params.get("name")
    if "COVERED" in os.environ and report.when == "call" and report.passed and isinstance(dtype, str):
        with open(os.environ["COVERED"], "a") as file:
            file.write(f"tests/python/{item.path.name}: {item.originalname}: {dtype}\n")


@pytest.fixture(scope="session")
def server():
    with Server() as running:
        yield running


@pytest.fixture(scope="session")
def client(server):
    with flight.connect(server.uri) as connected:
        yield connected


@pytest.fixture
def fresh():
    """A server of this test's own, for what must not be mixed with other tests' entries."""
    with Server(memory="256MiB") as running:
        yield running


@pytest.fixture
def fresh_client(fresh):
    with flight.connect(fresh.uri) as connected:
        yield connected


@pytest.fixture
def namespace(request):
    """A namespace that no other test uses."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{request.module.__name__}.{request.node.name}")[-128:]


@pytest.fixture(scope="session")
def glove_parquet(tmp_path_factory):
    """A folder with the file that the examples for pipelines load."""
    folder = tmp_path_factory.mktemp("glove")
    subprocess.run([sys.executable, EXAMPLES / "glove_parquet.py"], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def folder():
    """A folder for the files that a server reads itself."""
    WORK.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK) as path:
        yield pathlib.Path(path)
