"""The code is built as docs/architecture.md says."""

import ast
import graphlib
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PACKAGE = ROOT / "swav_jax"


def modules():
    """Every module by its dotted name, and its file."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = file
    return found


MODULES = modules()


def imported(file):
    """The modules of ours that a file imports or names as "module:function", wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            module, colon, _ = node.value.partition(":")  # of a task
            if colon and module in MODULES:
                yield module


def room(module):
    """`swav_jax.data.batch` is in the room `data`."""
    return module.split(".")[1]


def imports_of_rooms():
    found = defaultdict(set)
    for module, file in MODULES.items():
        if module != "swav_jax":
            found[room(module)] |= {room(other) for other in imported(file)} - {room(module)}
    return dict(found)


def table():
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, flags=re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", allowed)) for name, allowed in rows}


def drawing():
    """The rows of rooms, from the top."""
    rows = re.search(r"```\n(.*?)```", PAGE, flags=re.DOTALL)[1].splitlines()
    rooms = {room for room in imports_of_rooms()}
    found = [[name for name in re.findall(r"\w+", row[:54]) if name in rooms] for row in rows]
    return [row for row in found if row]


def test_the_imports_are_those_of_the_table():
    assert imports_of_rooms() == table()


def test_no_import_goes_up_or_sideways():
    row_of = {name: number for number, row in enumerate(drawing()) for name in row}
    assert row_of.keys() == table().keys()
    for name, others in table().items():
        upward = {other for other in others if row_of[other] <= row_of[name]}
        assert not upward, f"{name} imports {upward}, which the drawing has no lower"


def test_no_modules_import_each_other_in_a_circle():
    graph = {module: set(imported(file)) - {module} for module, file in MODULES.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("library", "rooms"),
    [("tensorflow", {"data"}), ("orbax", {"checkpoints"}), ("absl.app", set())],
)
def test_libraries_stay_in_their_rooms(library, rooms):
    users = set()
    for module, file in MODULES.items():
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            if any(name == library or name.startswith(f"{library}.") for name in names):
                users.add(room(module))
    assert users == rooms
