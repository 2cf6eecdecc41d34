"""The picture of rooms: imports go downwards only, and in no circle, those within functions included."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "fftnet_jax"
FILES = {
    ".".join(("fftnet_jax", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in PACKAGE.rglob("*.py")
}
# From the ground up; `fftnet_jax/__init__.py` stands above all.
ROOMS = (
    "errors", "discovery", "signals", "files", "config", "ops", "spectral", "parallel", "mixers", "models", "interop",
    "tokenizers", "data", "runs", "generation", "tasks", "distillation", "training", "cli",
)  # fmt: skip


def module_of(name):
    """The file that an imported name is in, as a module's name; None for others' packages."""
    while name and name not in FILES and f"{name}.__init__" not in FILES:
        name = name.rpartition(".")[0]
    return name if name in FILES else f"{name}.__init__" if name else None


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def graph():
    found = {name: {module_of(target) for target in imports(path)} - {None, name} for name, path in FILES.items()}
    return {name: {target for target in targets if target != "fftnet_jax.__init__"} for name, targets in found.items()}


def room(module):
    return module.split(".")[1]


def test_no_circle_of_files():
    TopologicalSorter(graph()).prepare()  # raises CycleError, which names the circle


def test_rooms_import_from_those_below_only():
    assert {room(module) for module in FILES} == {*ROOMS, "__init__"}
    upwards = [
        f"{module} imports {target}"
        for module, targets in graph().items()
        for target in targets
        if room(module) != "__init__" and ROOMS.index(room(target)) > ROOMS.index(room(module))
    ]
    assert not upwards


@pytest.mark.parametrize("name", ["utils.py", "helpers.py", "common.py"])
def test_a_file_is_named_by_a_noun_that_says_something(name):
    assert not list(PACKAGE.rglob(name))


def test_no_module_is_shadowed_by_a_function_of_its_name():
    for path in PACKAGE.rglob("__init__.py"):
        names = {alias.asname or alias.name for node in ast.walk(ast.parse(path.read_text()))
                 if isinstance(node, ast.ImportFrom) for alias in node.names}  # fmt: skip
        modules = {file.stem for file in path.parent.glob("*.py")} | {file.name for file in path.parent.glob("*/")}
        shadowed = {n for n in names & modules if not _is_module(path, n)}
        assert not shadowed, (path, shadowed)


def _is_module(init, name):
    """Whether a name that `__init__.py` imports is the module itself."""
    room_name = ".".join(("fftnet_jax", *init.parent.relative_to(PACKAGE).parts))
    return any(target == f"{room_name}.{name}" for target in imports(init))
