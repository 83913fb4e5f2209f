"""Generate `proto/schema/*_pb2.py` and `*_pb2.pyi` from the `.proto` files beside them.

    python tools/generate_schema.py            write the modules
    python tools/generate_schema.py --check    fail if that would change anything

protoc writes modules that import each other as top-level names and that register in protobuf's default pool;
both are rewritten here (why: `proto/schema/pool.py`).
"""

import argparse
import importlib.resources
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from grpc_tools import protoc  # type: ignore[import-untyped]

SCHEMA = Path(__file__).resolve().parent.parent / "proto" / "schema"
WELL_KNOWN_TYPES = importlib.resources.files("grpc_tools") / "_proto"

REWRITES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^import (\w+_pb2) as ", re.MULTILINE), r"from . import \1 as "),
    (
        re.compile(r"^from google\.protobuf import descriptor_pool as .*$", re.MULTILINE),
        "from .pool import POOL",
    ),
    (re.compile(r"_descriptor_pool\.Default\(\)"), "POOL"),
    (re.compile(r"(BuildTopDescriptorsAndMessages\(DESCRIPTOR, )'\w+'"), r"\1__name__"),
)


def generate() -> dict[str, str]:
    """Return the text of every generated module by file name; exits if protoc refuses a `.proto` file."""
    sources = sorted(path.name for path in SCHEMA.glob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        status = protoc.main(
            [
                "protoc",
                f"--proto_path={SCHEMA}",
                f"--proto_path={WELL_KNOWN_TYPES}",
                f"--python_out={folder}",
                f"--pyi_out={folder}",
                *sources,
            ]
        )
        if status != 0:
            sys.exit("protoc refused the schema")
        return {path.name: rewrite(path.read_text()) for path in sorted(Path(folder).iterdir())}


def rewrite(module: str) -> str:
    """Turn one module as protoc writes it into one that lives in this package and its own pool."""
    for pattern, replacement in REWRITES:
        module = pattern.sub(replacement, module)
    return module


def differences(modules: Mapping[str, str]) -> list[str]:
    """Return the names of the files that are missing, left over, or other than `modules`."""
    present = {path.name: path.read_text() for path in SCHEMA.glob("*_pb2.py*")}
    return sorted(name for name in modules.keys() | present.keys() if modules.get(name) != present.get(name))


def main() -> None:
    """Write the modules, or compare them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing; fail if something would change")
    arguments = parser.parse_args()
    modules = generate()
    changed = differences(modules)
    if arguments.check:
        sys.exit(f"not what the schema says: {', '.join(changed)}" if changed else 0)
    for name in changed:
        path = SCHEMA / name
        if name in modules:
            path.write_text(modules[name])
        else:
            path.unlink()
        sys.stdout.write(f"changed {path.name}\n")


if __name__ == "__main__":
    main()
