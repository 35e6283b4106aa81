"""docs/clients shows what tests run, and each cell of its table names a test that exists."""

import pathlib
import re
import textwrap

import pytest

from server import REPOSITORY

DOCS = REPOSITORY / "docs" / "clients"
PAGES = sorted(DOCS.glob("*.md"))

#: How a test is declared, by the ending of its file.
DECLARED = {
    ".py": r"^\s*def {}\(",
    ".rs": r"\bfn {}\(",
    ".go": r"^func {}\(",
    ".java": r"\bvoid {}\(",
    ".js": r"""\btest\(['"`]{}['"`]""",
    ".mjs": r"""\btest\(['"`]{}['"`]""",
}

#: A definition of the table's: `[name]: PATH "TEST"`.
DEFINITION = re.compile(r'^\[([^\]]+)\]: (\S+) "([^"]+)"$', re.MULTILINE)


def snippet(path, name):
    """The lines of a file between `snippet: NAME` and `snippet end`, dedented; the whole file where no name is given."""
    text = (REPOSITORY / path).read_text()
    if name is None:
        return text
    inside = re.findall(
        rf"^[^\n]*\bsnippet: {re.escape(name)}\s*(?:-->|\*/)?$\n(.*?)^[^\n]*\bsnippet end\b", text, re.MULTILINE | re.DOTALL
    )
    assert len(inside) == 1, f"`snippet: {name}` stands {len(inside)} times in {path}"
    assert "snippet: " not in inside[0], f"`snippet: {name}` of {path} has no end of its own"
    return textwrap.dedent(inside[0])


def blocks(page):
    """Every fenced block of a page: the line before its fence, and what it shows, without the fence's own indentation."""
    lines = iter(page.read_text().splitlines())
    before, found = "", []
    for line in lines:
        if fence := re.match(r"(\s*)(`{3,}|~{3,})", line):
            inside = []
            for inner in lines:
                if inner.strip() == fence[2]:
                    break
                inside.append(inner.removeprefix(fence[1]))
            else:
                raise AssertionError(f"{page.name}: a block is not closed")
            found.append((before.strip(), "".join(line + "\n" for line in inside)))
        before = line
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_code_block_is_a_snippet_of_a_file_that_tests_run(page):
    tests = "".join(path.read_text() for path in pathlib.Path(__file__).parent.glob("test_*.py"))
    for before, shown in blocks(page):
        named = re.fullmatch(r"<!-- snippet: (\S+)(?: (\S+))? -->", before)
        assert named, f"no `<!-- snippet: PATH NAME -->` stands before this block:\n{shown}"
        path, name = named.groups()
        run = path.startswith("tests/") or (path.startswith("examples/") and pathlib.Path(path).name in tests)
        assert run, f"no test is known to run {path}"
        assert snippet(path, name) == shown, f"{path} {name or ''} is not what {page.name} shows"


def tables():
    """The rows of every table of the overview, as lists of cells."""
    rows = [line for line in (DOCS / "README.md").read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if not re.match(r"\|[-| :]+\|$", row)]


def test_a_cell_names_a_test_or_says_that_there_is_none():
    """`–` where a client cannot; its page says what it does instead."""
    defined = {name for name, _, _ in DEFINITION.findall((DOCS / "README.md").read_text())}
    used, columns = set(), None
    for row in tables():
        if row[0] == "client":
            columns = row
            continue
        if columns is None:
            continue
        assert len(row) == len(columns), f"a row has another number of cells: {row}"
        assert re.fullmatch(r"\[.+\]\(\w[\w-]*\.md\)", row[0]), f"the row's client has no page: {row}"
        assert (DOCS / re.search(r"\((.+)\)", row[0])[1]).exists(), row
        for column, cell in zip(columns[1:], row[1:]):
            if column == "of" or cell == "–":
                continue
            named = re.fullmatch(r"\[(?:✓|bytes)\]\[(.+)\]", cell)
            assert named, f"neither `[✓][name]`, `[bytes][name]` nor `–`: {row[0]} {column}: {cell!r}"
            assert named[1] in defined, f"{named[1]} is not defined below the table"
            used.add(named[1])
    assert used, "the tables have no cell"
    assert defined == used, f"never used: {sorted(defined - used)}"


@pytest.mark.parametrize(
    "name, path, test",
    DEFINITION.findall((DOCS / "README.md").read_text()),
    ids=lambda value: value if "/" not in value else "",
)
def test_a_named_test_exists(name, path, test):
    file = (DOCS / path).resolve()
    assert file.is_relative_to(REPOSITORY) and file.exists(), f"{name}: there is no {path}"
    declared = DECLARED[file.suffix].format(re.escape(test))
    assert re.search(declared, file.read_text(), re.MULTILINE), f"{name}: {path} has no test {test}"


def test_every_page_is_in_the_overview():
    text = (DOCS / "README.md").read_text()
    for page in PAGES:
        assert page.name == "README.md" or f"]({page.name})" in text, f"{page.name} is not linked"
