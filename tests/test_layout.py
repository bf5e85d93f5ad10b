"""Layout of the package: a room imports only from rooms below it, and modules do not import in circles."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("maskfeat_plugin", "maskfeat_cli", "projects")
# From the ground up. docs/contributing has the same list in words.
ROOMS = (
    ("errors", "version", "machine", "locks", "files"),
    ("downloads", "storage", "curve_files", "tensorboard_records", "plain_yaml"),
    ("registry",),
    ("ops",),
    ("checkpoints",),
    ("datasets",),
    ("compat",),  # other modules only rely on its effects
    ("models",),
    ("evaluation",),
    ("visualization",),
    ("engine",),
    ("config",),
    ("running",),
    ("preparation",),
    ("training_report",),
    ("apis",),
)
HEIGHTS = {room: height for height, rooms in enumerate(ROOMS) for room in rooms}


def modules():
    """Return the names of all modules and their files."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if "mmcv_ops" not in path.parts and ".mim" not in path.parts:
                yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


FILES = dict(modules())


def imports_of(name):
    """Return the modules of this repository that a module imports, anywhere in it."""
    path = FILES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(filter(None, (above, node.module)))
            found.update(
                f"{module}.{alias.name}" if f"{module}.{alias.name}" in FILES else module for alias in node.names
            )
    return {module for module in found if module in FILES and module != name}


IMPORTS = {name: imports_of(name) for name in FILES}


def height(name):
    package, room, *_ = [*name.split("."), ""]
    if package == "projects":
        return len(ROOMS)
    return HEIGHTS[room] if room else -1  # the package itself, which registers all components


def test_every_room_has_a_height():
    rooms = {name.split(".")[1] for name in FILES if name.startswith("maskfeat_plugin.")}
    assert rooms == set(HEIGHTS)


@pytest.mark.parametrize("package", ["maskfeat_plugin", "projects"])
def test_imports_go_down(package):
    own = [name for name in FILES if name.startswith(f"{package}.")]
    edges = [(a, b) for a in own for b in IMPORTS[a] if not b.startswith("maskfeat_cli")]
    assert len(edges) > 50
    assert [f"{a} imports {b}" for a, b in edges if height(b) > height(a)] == []


def test_the_command_imports_nothing_of_the_package_before_it_runs():
    """Its probes do, each in a separate process. The package imports shared definitions from the command."""
    shared = {
        f"maskfeat_cli.{name}" for name in ("arguments", "config_files", "folders", "given_files", "named_configs")
    }
    for name, imported in IMPORTS.items():
        command = name.startswith("maskfeat_cli")
        others = {module for module in imported if module.startswith("maskfeat_cli") != command}
        assert not others or name == "maskfeat_cli.probes" or others <= shared, name


def test_no_circles():
    left = {name: set(imported) for name, imported in IMPORTS.items()}
    while free := [name for name, imported in left.items() if not imported & left.keys()]:
        for name in free:
            del left[name]
    assert sorted(left) == []


def test_a_circle_would_be_seen():
    assert {"maskfeat_plugin.registry", "maskfeat_plugin.errors"} & IMPORTS["maskfeat_plugin.config.checks"]
    assert imports_of("maskfeat_plugin.config.checks") & {"maskfeat_plugin.config.origins"}
