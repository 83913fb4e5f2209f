"""From a file to an initialised instance: its code, what it is told, and what is told when it fails."""

import json
import sys
import threading
from pathlib import Path

import pytest

from deuteron.backends.api import Engine
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.message import Response

from .conftest import CONFIG, Workbench

PLAIN = """
class TritonPythonModel:
    def execute(self, requests):
        return [answer() for _ in requests]
"""


def refusal(bench: Workbench, config: str = CONFIG) -> InferError:
    """Load a model that cannot be loaded; return why."""
    with pytest.raises(InferError) as caught:
        bench.engine(config)
    return caught.value


def told(bench: Workbench, expression: str) -> str:
    """Return what an expression is worth inside `execute`, as text."""
    return bench.error(
        f"error = pb_utils.TritonError(str({expression}))\nreturn [pb_utils.InferenceResponse(error=error)]"
    )


def test_initialize_is_told_everything_as_strings(bench: Workbench) -> None:
    bench.write(
        """
        class TritonPythonModel:
            def initialize(self, args):
                TritonPythonModel.args = args
            def execute(self, requests):
                import json
                error = pb_utils.TritonError(json.dumps(self.args))
                return [pb_utils.InferenceResponse(error=error)]
        """
    )
    (response,) = bench.start(bench.engine(index=2), bench.ask()).of(0)
    assert response.error is not None
    arguments = json.loads(response.error.message)
    config = json.loads(arguments.pop("model_config"))
    assert arguments == {
        "model_instance_kind": "CPU",
        "model_instance_name": "model_2",
        "model_instance_device_id": "0",
        "model_repository": str(bench.files.directory),
        "model_version": "1",
        "model_name": "model",
    }
    assert config["input"][0] == {
        "name": "IN",
        "data_type": "TYPE_FP32",
        "format": "FORMAT_NONE",
        "dims": [-1],
        "is_shape_tensor": False,
        "allow_ragged_batch": False,
        "optional": False,
        "is_non_linear_format_io": False,
    }


def test_life_goes_from_initialize_over_execute_to_finalize(bench: Workbench) -> None:
    log = bench.files.directory / "log"
    bench.write(
        f"""
        def note(what):
            with open({str(log)!r}, "a") as file:
                print(what, file=file)
        class TritonPythonModel:
            def __init__(self): note("init")
            def initialize(self, args): note("initialize")
            def execute(self, requests): note("execute"); return [answer()]
            def finalize(self): note("finalize")
        """
    )
    engine = bench.engine()
    bench.start(engine, bench.ask())
    engine.close()
    bench.engines.remove(engine)
    assert log.read_text().split() == ["init", "initialize", "execute", "finalize"]


def test_initialize_and_finalize_may_be_absent(bench: Workbench) -> None:
    bench.write(PLAIN)
    (response,) = bench.start(bench.engine(), bench.ask()).of(0)
    assert response.error is None


def test_a_finalize_that_raises_is_only_logged(bench: Workbench, caplog: pytest.LogCaptureFixture) -> None:
    bench.write(f"{PLAIN}    def finalize(self):\n        raise OSError('no')\n")
    bench.engines.remove(engine := bench.engine())
    engine.close()
    assert "OSError: no\n\nAt:\n" in caplog.text


FAILURES = {
    "class TritonPythonModel:\n    def initialize(self, args):\n        raise ValueError('no')": (
        "ValueError: no\n\nAt:\n  {path}(3): initialize\n"
    ),
    "class TritonPythonModel:\n    def __init__(self):\n        raise ValueError('no')": (
        "ValueError: no\n\nAt:\n  {path}(3): __init__\n"
    ),
    "import no_such_module": (
        "ModuleNotFoundError: No module named 'no_such_module'\n\nAt:\n  {path}(1): <module>\n"
    ),
    "def f(:\n    pass": "SyntaxError: invalid syntax (model.py, line 1)",
    "x = 1": "AttributeError: module '1.model' has no attribute 'TritonPythonModel'",
    "raise SystemExit(3)": "SystemExit: 3\n\nAt:\n  {path}(1): <module>\n",
    "class Odd(Exception):\n    def __str__(self):\n        raise OSError\nraise Odd": (
        "Odd: <no message: its __str__ raised OSError>\n\nAt:\n  {path}(4): <module>\n"
    ),
}


@pytest.mark.parametrize(("source", "message"), FAILURES.items())
def test_a_model_that_cannot_start_says_why(bench: Workbench, source: str, message: str) -> None:
    path = bench.write(source, head="")
    error = refusal(bench)
    assert error.message == message.format(path=path)
    assert error.fault is Fault.INTERNAL


def test_a_missing_file_is_refused(bench: Workbench) -> None:
    assert "unable to find" in refusal(bench).message


def test_the_configuration_may_name_another_file(bench: Workbench) -> None:
    bench.write(PLAIN, "other.py")
    (response,) = bench.start(bench.engine(f"{CONFIG} default_model_filename: 'other.py'"), bench.ask()).of(0)
    assert response.error is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("default_model_filename: 'model.so'", "Model name must end with '.py'. Model name is \"model.so\"."),
        ("default_model_filename: '../../../out.py'", "is outside of the model repository"),
        (
            "parameters { key: 'FORCE_CPU_ONLY_INPUT_TENSORS' value { string_value: 'maybe' } }",
            "Incorrect value for FORCE_CPU_ONLY_INPUT_TENSORS: maybe",
        ),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(bench: Workbench, setting: str, message: str) -> None:
    bench.write(PLAIN)
    bench.write(PLAIN, "model.so")
    (bench.files.directory.parent.parent / "out.py").write_text(PLAIN)
    assert message in refusal(bench, f"{CONFIG} {setting}").message


@pytest.mark.parametrize("value", ["yes", "no"])
def test_inputs_may_be_wanted_on_the_host_or_not(bench: Workbench, value: str) -> None:
    bench.write(PLAIN)
    setting = f"parameters {{ key: 'FORCE_CPU_ONLY_INPUT_TENSORS' value {{ string_value: '{value}' }} }}"
    (response,) = bench.start(bench.engine(f"{CONFIG} {setting}"), bench.ask()).of(0)
    assert response.error is None


def messages(engine: Engine) -> str:
    """Return the message that a model of the tests below answers with."""
    response: Response
    (response,) = Workbench.start(engine, Workbench.ask()).of(0)
    assert response.error is not None
    return response.error.message


SAYING = """
class TritonPythonModel:
    def execute(self, requests):
        {imports}
        return [pb_utils.InferenceResponse(error=pb_utils.TritonError(str({value})))]
"""


@pytest.mark.parametrize(
    "statement", ["import helper", "from . import helper", "import package.helper as helper"]
)
@pytest.mark.parametrize("place", ["head", "execute"])
def test_models_may_have_modules_of_the_same_name(tmp_path: Path, statement: str, place: str) -> None:
    """Beside the model file, relative or absolute, when it is imported or later."""
    engines = []
    for name in ("one", "two"):
        bench = Workbench(tmp_path / "repository" / name)
        imports = statement if place == "execute" else "pass"
        bench.write(
            (statement if place == "head" else "") + SAYING.format(imports=imports, value="helper.VALUE")
        )
        bench.write(f"from shared import NAME\nVALUE = NAME + '{name}'", "helper.py", head="")
        bench.write("from shared import NAME\nVALUE = NAME", "package/helper.py", head="")
        bench.write("", "package/__init__.py", head="")
        (bench.files.directory / "shared.py").write_text(f"NAME = 'shared by {name}'")
        engines.append(bench.engine())
    first, second = messages(engines[0]), messages(engines[1])
    assert first.startswith("shared by one")
    assert second.startswith("shared by two")
    for engine in engines:
        engine.close()


def test_instances_of_one_model_share_no_modules(bench: Workbench) -> None:
    bench.write(
        "import counter\n" + SAYING.format(imports="counter.calls.append(1)", value="len(counter.calls)")
    )
    bench.write("calls = []", "counter.py", head="")
    engines = [bench.engine(), bench.engine(index=1)]
    assert [messages(each) for each in (engines[0], engines[0], engines[1])] == ["1", "2", "1"]


def test_what_is_importable_elsewhere_comes_from_there(bench: Workbench) -> None:
    bench.write("import json\n" + SAYING.format(imports="import json.decoder", value="json.__name__"))
    bench.write("", "json.py", head="")
    assert messages(bench.engine()) == "json"


def test_names_that_go_round_the_import_statement_are_found_too(here: Workbench) -> None:
    here.write(SAYING.format(imports="import importlib", value="importlib.import_module('gone_round').VALUE"))
    here.write("VALUE = 5", "gone_round.py", head="")
    assert messages(here.engine()) == "5"
    sys.modules.pop("gone_round")


def test_nothing_is_left_of_a_closed_instance_and_nothing_was_written_beside_it(here: Workbench) -> None:
    here.write("import beside\n" + PLAIN)
    here.write("", "beside.py", head="")
    modules, path = set(sys.modules), list(sys.path)
    here.engines.remove(engine := here.engine())
    assert set(sys.modules) - modules
    engine.close()
    assert not {each for each in set(sys.modules) - modules if each.startswith("triton_model_")}
    assert sys.path == path
    assert {each.name for each in here.files.version_directory.iterdir()} == {"model.py", "beside.py"}


def test_an_instance_that_failed_to_start_leaves_nothing_either(bench: Workbench) -> None:
    bench.write("raise ValueError")
    path, modules = list(sys.path), set(sys.modules)
    refusal(bench)
    assert sys.path == path
    assert not [each for each in set(sys.modules) - modules if each.startswith("triton_model_")]


def test_get_model_dir_knows_who_asks(bench: Workbench) -> None:
    bench.write(
        "from helper import ask\nHERE = pb_utils.get_model_dir()\n"
        + SAYING.format(
            imports="""
        found = [HERE, pb_utils.get_model_dir(), ask()]
        thread = threading.Thread(target=lambda: found.append(pb_utils.get_model_dir()))
        thread.start()
        thread.join()
        """,
            value="set(found)",
        )
    )
    bench.write(
        "import triton_python_backend_utils as u\ndef ask():\n    return u.get_model_dir()",
        "helper.py",
        head="",
    )
    assert messages(bench.engine()) == str({str(bench.files.version_directory)})


def test_get_model_dir_refuses_whoever_is_no_model() -> None:
    from deuteron.backends.python.api.model_dir import get_model_dir

    with pytest.raises(Exception, match="not called by the code of a model"):
        get_model_dir()


def test_models_may_be_loaded_at_the_same_time(tmp_path: Path) -> None:
    benches = [Workbench(tmp_path / "repository" / f"model{number}") for number in range(8)]
    engines: list[Engine] = []

    def load(bench: Workbench) -> None:
        engines.append(bench.engine())

    for number, bench in enumerate(benches):
        bench.write("import helper\n" + SAYING.format(imports="pass", value="helper.VALUE"))
        bench.write(f"import time; time.sleep(0.001); VALUE = {number}", "helper.py", head="")
    threads = [threading.Thread(target=load, args=(bench,)) for bench in benches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(messages(each) for each in engines) == [str(number) for number in range(8)]
    for engine in engines:
        engine.close()


def test_model_code_sees_the_module_under_both_its_names(bench: Workbench) -> None:
    assert told(bench, "__import__('c_python_backend_utils').Tensor is pb_utils.Tensor") == "True"
