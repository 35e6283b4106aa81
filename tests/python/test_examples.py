"""The examples for pipelines, run as they are: each loads 400,000 embeddings, and every value is compared.

Those for Ray and Spark are run by test_ray.py and test_spark.py, which have a cluster of each.
"""

import os
import re
import subprocess
import sys

import pyarrow.flight as flight
import pytest

import glove
from conftest import EXAMPLES
from server import Server


@pytest.mark.parametrize("name", ["from_polars.py", "from_duckdb.py", "from_pandas.py"])
def test_it_loads_glove(glove_parquet, name):
    with Server(memory="512MiB") as server:
        environment = os.environ | {"BOWSTRING_ENDPOINT": server.uri}
        command = [sys.executable, "-W", "error", EXAMPLES / name]
        done = subprocess.run(command, cwd=glove_parquet, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "king" in done.stdout
        with flight.connect(server.uri) as client:
            glove.compare(client)


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short_enough_to_copy(example):
    lines = example.read_text().splitlines()
    assert len([line for line in lines if line and not re.match("(import|from) ", line)]) <= 40
    assert max(map(len, lines)) <= 130
