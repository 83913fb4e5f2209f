"""Backends are found by name, imported when first asked for, and missing packages are told by their extra."""

import subprocess
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from deuteron.backends import catalog
from deuteron.backends.catalog import ENTRIES, Catalog, Entry
from deuteron.backends.identity import IdentityBackend
from deuteron.proto.errors import Fault, InferError


class Blocker:
    """A finder that hides packages, as if they were not installed."""

    def __init__(self, *packages: str) -> None:
        self.packages = packages

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse what is hidden; leave the rest to others."""
        if name.partition(".")[0] in self.packages:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return None


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide onnxruntime and torch, and forget the backends that imported them."""
    hidden = ("onnxruntime", "torch")
    ours = ("deuteron.backends.onnxruntime", "deuteron.backends.pytorch")
    for name in list(sys.modules):
        if name.partition(".")[0] in hidden or name.startswith(ours):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Blocker(*hidden), *sys.meta_path])


def test_a_backend_is_made_once() -> None:
    found = Catalog()
    assert isinstance(found.find("identity"), IdentityBackend)
    assert found.find("identity") is found.find("identity")


def test_an_unknown_backend_is_told_as_triton_tells_it() -> None:
    with pytest.raises(InferError) as caught:
        Catalog().find("tensorrt")
    assert caught.value.titled == (
        "Invalid argument: unable to find backend library for backend 'tensorrt', "
        "try specifying runtime on the model configuration."
    )


@pytest.mark.usefixtures("bare_environment")
@pytest.mark.parametrize(
    ("name", "package", "extra"), [("onnxruntime", "onnxruntime", "onnx"), ("pytorch", "torch", "torch")]
)
def test_a_missing_package_is_told_with_the_extra_that_installs_it(
    name: str, package: str, extra: str
) -> None:
    with pytest.raises(InferError) as caught:
        Catalog().find(name)
    assert caught.value.fault is Fault.UNAVAILABLE
    assert caught.value.message == (
        f"backend '{name}' needs a package that cannot be imported (No module named '{package}'): "
        f"pip install 'deuteron[{extra}]'"
    )


def test_an_import_error_of_our_own_is_not_blamed_on_the_installation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catalog, "ENTRIES", {"broken": Entry(".no_such_module", "Backend")})
    with pytest.raises(ModuleNotFoundError):
        Catalog().find("broken")


def test_a_backend_gets_its_settings_and_those_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def remember(self: IdentityBackend, settings: dict[str, str]) -> None:
        given.append(settings)

    monkeypatch.setattr(IdentityBackend, "__init__", remember)
    settings = {
        "": {"default-max-batch-size": "2", "min-compute-capability": "6.0"},
        "identity": {"default-max-batch-size": "8"},
        "python": {"stub-timeout-seconds": "3"},
    }
    Catalog(settings).find("identity")
    assert given == [{"default-max-batch-size": "8", "min-compute-capability": "6.0"}]


def test_many_lanes_that_ask_at_once_get_the_same_backend() -> None:
    found, backends = Catalog(), set()
    threads = [threading.Thread(target=lambda: backends.add(id(found.find("identity")))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(backends) == 1


def test_no_engine_is_imported_before_a_model_needs_it() -> None:
    program = (
        "import sys; from deuteron.backends.catalog import Catalog; Catalog().find('identity');"
        "print(*{'torch', 'onnxruntime', 'deuteron.backends.python.backend'} & set(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == ""


def test_every_extra_is_one_of_the_package() -> None:
    assert {entry.extra for entry in ENTRIES.values()} == {"", "onnx", "torch"}
