"""What is shipped is what is in the tree, and what is installed is what is pinned."""

import ast
import importlib.metadata
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import deuteron

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("actors", "backends", "proto", "service")
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())


def files_of_the_package() -> Iterator[Path]:
    """Yield every file that belongs into a wheel, relative to the root."""
    yield from (Path("__init__.py"), Path("py.typed"))
    for floor in FLOORS:
        for path in sorted((ROOT / floor).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(ROOT)


def collect_required(name: str, extras: frozenset[str], found: dict[str, frozenset[str]]) -> None:
    """Add to `found` (name → extras asked for) what a distribution needs on this machine, at any depth."""
    known = found.get(name, frozenset())
    if name in found and extras <= known:
        return
    found[name] = extras | known
    for line in importlib.metadata.requires(name) or ():
        requirement = Requirement(line)
        marker, chosen_by_torch = requirement.marker, name == "torch" and "==" in str(requirement.specifier)
        if not chosen_by_torch and (
            marker is None or any(marker.evaluate({"extra": e}) for e in extras or {""})
        ):
            collect_required(canonicalize_name(requirement.name), frozenset(requirement.extras), found)


def test_the_list_of_packages_is_the_tree() -> None:
    parts = [path.parent.parts for path in files_of_the_package() if path.name == "__init__.py"]
    assert SETTINGS["tool"]["setuptools"]["packages"] == sorted(
        ".".join(("deuteron", *each)) for each in parts
    )


def test_the_root_holds_one_module() -> None:
    """Any other `*.py` would be shipped as a module of `deuteron`."""
    assert [path.name for path in ROOT.glob("*.py")] == ["__init__.py"]


def test_the_version_is_told_once() -> None:
    assert deuteron.__version__ == SETTINGS["project"]["version"]


def test_a_wheel_holds_every_file_of_the_floors_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for path in (*files_of_the_package(), Path("pyproject.toml"), Path("README.md"), Path("LICENSE")):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, source / path)
    command = "import sys, setuptools.build_meta as backend; backend.build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", command, str(tmp_path)], cwd=source, check=True, capture_output=True
    )

    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    packed = {Path(name).relative_to("deuteron") for name in names if name.startswith("deuteron/")}
    assert packed == set(files_of_the_package())
    assert {name.partition("/")[0] for name in names} == {
        "deuteron",
        f"deuteron-{deuteron.__version__}.dist-info",
    }


def test_everything_that_is_needed_is_pinned_and_nothing_else() -> None:
    """A CUDA build of torch also needs libraries of NVIDIA, each at an exact version that torch chooses."""
    found: dict[str, frozenset[str]] = {}
    collect_required("deuteron", frozenset({"dev"}), found)
    installers = {"pip", "setuptools", "wheel"}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {canonicalize_name(line.partition("==")[0]) for line in lines if not line.startswith("#")}
    assert pinned == found.keys() - {"deuteron"} | installers


def test_what_type_checkers_see_is_what_programs_get() -> None:
    """The public names stand twice in the root: in imports for type checkers, and in the table."""
    tree = ast.parse((ROOT / "__init__.py").read_text())
    seen = {
        alias.asname: f".{node.module}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    assert seen == deuteron.HOMES
    for name in seen:
        assert getattr(deuteron, str(name)).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        deuteron.nothing  # type: ignore[attr-defined] # noqa: B018 - to read it is the test
