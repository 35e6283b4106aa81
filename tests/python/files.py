"""`bowstring` as a process: the verbs that move tensors between files and a server."""

import os
import subprocess

import ml_dtypes
import numpy

from server import binary

# What NumPy has by itself, and what it needs ml_dtypes for.
DTYPES = [
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "complex64", "complex128",
    ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2,
]
SHAPES = [(), (0,), (7,), (2, 3), (3, 0, 2), (2, 3, 4)]


def name_of(dtype):
    return numpy.dtype(dtype).name


def array(dtype, shape, seed=0):
    """Any bytes that are values of that dtype."""
    dtype = numpy.dtype(dtype)
    count = int(numpy.prod(shape))
    if dtype == bool:
        return (numpy.arange(count) % 3 == seed % 3).reshape(shape)
    raw = numpy.random.default_rng(seed).integers(0, 256, count * dtype.itemsize, dtype=numpy.uint8)
    return raw.view(dtype).reshape(shape)


def same(one, other):
    """Bit for bit: NaN is what it was."""
    return one.dtype.itemsize == other.dtype.itemsize and one.shape == other.shape and one.tobytes() == other.tobytes()


def bowstring(uri, verb, *words, input=None, code=0, state=None):
    """Runs it; what it wrote on standard output. `code` is what it must exit with."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BOWSTRING_")}
    if state is not None:
        clean["XDG_STATE_HOME"] = str(state)
    command = [binary(), verb, "--endpoint", uri, *words]
    done = subprocess.run([str(word) for word in command], input=input, capture_output=True, env=clean, timeout=120)
    said = done.stderr.decode(errors="replace")
    assert done.returncode == code, f"{command}\nexit code {done.returncode}:\n{said}\n{done.stdout[:500]}"
    assert "panicked" not in said, said
    return done.stdout if code == 0 else said
