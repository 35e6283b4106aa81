"""Segments of the cold tier, as PyArrow reads them: the golden files that the Rust tests compare with what is written."""

import json
import math

import pyarrow as pa
import pytest
import xxhash

from server import REPOSITORY
from tensors import DTYPES, storage_of

FOLDER = REPOSITORY / "proto-notes" / "vectors" / "cold" / "1"
SEGMENTS = json.loads((FOLDER / "cold.json").read_text())
COLUMNS = ["version", "checksum", "metadata", "source_version", "expires_at_ms"]


def opened(name):
    return pa.ipc.open_file(FOLDER / f"{name}.arrow")


def values(name, tensors):
    """The bytes of each tensor, in C order, as the columns have them."""
    table = opened(name).read_all()
    if name == "opaque":
        return [value.as_py() for value in table["data"]]
    if name == "packed":
        return [plain(*row) for row in zip(table["data"].to_pylist(), table["encoding"].to_pylist(), tensors)]
    column = table["tensor"].chunk(0)
    first = tensors[0]
    assert isinstance(column.type, pa.FixedShapeTensorType)
    assert column.type.shape == first["shape"]
    array = column.to_numpy_ndarray()
    assert array.dtype == DTYPES[first["dtype"]] and array.shape[1:] == tuple(first["shape"])
    return [storage_of(one).tobytes() for one in array]


def plain(data, encoding, tensor):
    """The bytes of a tensor that may be compressed: its blocks are frames, one behind the other, which zstd reads as one stream."""
    if encoding == "none":
        return data
    assert encoding == "zstd"
    size = DTYPES[tensor["dtype"]].itemsize * math.prod(tensor["shape"])
    assert len(data) < size
    return pa.decompress(data, decompressed_size=size, codec="zstd", asbytes=True)


@pytest.mark.parametrize("name", SEGMENTS)
def test_a_segment_is_an_arrow_file(name):
    segment = SEGMENTS[name]
    tensors = segment["tensors"]
    reader = opened(name)
    assert reader.metadata == {b"bowstring.format": b"1", b"bowstring.segment": str(segment["number"]).encode()}
    table = reader.read_all()
    table.validate(full=True)
    is_opaque = name in ("opaque", "packed")
    of_layout = ["key", "dtype", "shape", "data"] if is_opaque else ["key", "tensor"]
    owner = ["tenant", "namespace"] if is_opaque else []
    encoding = ["encoding"] if name == "packed" else []
    assert table.column_names == of_layout + COLUMNS + owner + encoding
    if encoding:
        assert table["encoding"].to_pylist() == ["zstd", "none", "zstd"]
    for column in ["key", "version", "checksum", "source_version", "expires_at_ms"]:
        assert table[column].to_pylist() == [tensor[column] for tensor in tensors]
    assert [dict(row) for row in table["metadata"].to_pylist()] == [tensor["metadata"] for tensor in tensors]
    if is_opaque:
        for column in ["dtype", "shape", "namespace"]:
            assert table[column].to_pylist() == [tensor[column] for tensor in tensors]
    else:
        metadata = table.schema.metadata
        assert {metadata[b"tensor.namespace"].decode()} == {tensor["namespace"] for tensor in tensors}


@pytest.mark.parametrize("name", SEGMENTS)
def test_the_tensors_have_their_checksums(name):
    tensors = SEGMENTS[name]["tensors"]
    sums = [xxhash.xxh3_128_hexdigest(value) for value in values(name, tensors)]
    assert sums == [tensor["checksum"] for tensor in tensors]


@pytest.mark.parametrize("name", SEGMENTS)
def test_a_sidecar_is_sealed(name):
    """As a program without Bowstring would check it, from the text of proto-notes/cold.md."""
    sidecar = (FOLDER / f"{name}.idx").read_bytes()
    sealed, seal = sidecar[:-16], sidecar[-16:]
    assert xxhash.xxh3_128_digest(sealed)[::-1] == seal
    assert sealed[:12] == b"BOWCOLD\n" + b"\x01\x00" + b"\x01\x00"
    assert int.from_bytes(sealed[12:20], "little") == SEGMENTS[name]["number"]
    assert int.from_bytes(sealed[20:28], "little") == (FOLDER / f"{name}.arrow").stat().st_size
