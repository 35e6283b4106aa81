"""Whether the tests that docs/clients/README.md names for an element type have really had a tensor of it.

A test of dtypes adds a line `PATH: TEST: DTYPE` to the file that COVERED names, when it is through with one. `tests/run` gives them a
file and looks into it at the end.
"""

import pathlib
import re

OVERVIEW = pathlib.Path(__file__).resolve().parent.parent / "docs" / "clients" / "README.md"

#: What the columns of the table stand for.
DTYPES = {
    "int": ["int8", "int16", "int32", "int64"],
    "uint": ["uint8", "uint16", "uint32", "uint64"],
    "float16": ["float16"],
    "float32": ["float32"],
    "float64": ["float64"],
    "bool": ["bool"],
    "bfloat16": ["bfloat16"],
    "float8": ["float8_e4m3fn", "float8_e5m2"],
    "complex": ["complex64", "complex128"],
}

#: Which part of `tests/run` runs the tests of a file.
PARTS = {".rs": "rust", ".py": "python", ".go": "go", ".java": "java", ".js": "node"}


def cells():
    """Every cell of the table of element types: client, of what, column, and the file and the name of its test."""
    text = OVERVIEW.read_text()
    defined = {name: (path, test) for name, path, test in re.findall(r'^\[([^\]]+)\]: (\S+) "([^"]+)"$', text, re.MULTILINE)}
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    head = next(row for row in rows if row[:2] == ["client", "of"])
    assert head[2:] == list(DTYPES), f"other columns than are known here: {head[2:]}"
    for row in rows[rows.index(head) + 2 :]:
        for column, cell in zip(head[2:], row[2:], strict=True):
            if cell != "–":
                path, test = defined[re.fullmatch(r"\[.+\]\[(.+)\]", cell)[1]]
                yield row[0], row[1], column, path.removeprefix("../../"), test


def missing(lines, parts):
    """Sentences on what the tests of these parts have not had, though the table says so."""
    had = set(lines)
    wanted = (
        (f"{client} {of} {dtype}", f"{path}: {test}: {dtype}")
        for client, of, column, path, test in cells()
        if PARTS[pathlib.Path(path).suffix] in parts
        for dtype in DTYPES[column]
    )
    return [f"{cell}: docs/clients/README.md names a test that had none of it: {line}" for cell, line in wanted if line not in had]
