"""What the README and examples/ show is what runs here."""

import os
import re
import subprocess
import sys

import pytest

from server import REPOSITORY

EXAMPLES = ["put_get.py", "glove.py"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_readme_shows_the_example(name):
    snippets = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    assert (REPOSITORY / "examples" / name).read_text() in snippets


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_has_ten_lines(name):
    lines = (REPOSITORY / "examples" / name).read_text().splitlines()
    assert len([line for line in lines if line and not re.match("(import|from) ", line)]) <= 10


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(fresh, name):
    """As it stands, but for the address: the default port may be taken on this machine."""
    source = (REPOSITORY / "examples" / name).read_text()
    assert source.count("grpc://127.0.0.1:8815") == 1
    source = source.replace("grpc://127.0.0.1:8815", fresh.uri)
    done = subprocess.run([sys.executable, "-W", "error", "-c", source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_commands_of_the_readme_exist():
    text = (REPOSITORY / "README.md").read_text()
    assert "cargo run --release -- serve" in text and "./tests/run" in text
    assert os.access(REPOSITORY / "tests" / "run", os.X_OK)
