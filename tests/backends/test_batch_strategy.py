"""A model may bring a rule of its own about who joins a batch; a bad one is told, and harms nobody."""

import numpy as np
import pytest

from deuteron.backends.batch_strategy import Joins, load_strategy
from deuteron.proto.errors import Fault, InferError

from .conftest import Rig

BATCHING = "max_batch_size: 8 dynamic_batching { }\n"
BY_SIZE = """
def batch_strategy(config):
    limit = int(config["parameters"]["MAX_BYTES"]["string_value"])
    return lambda batch, request: sum(each.byte_size for each in batch) + request.byte_size <= limit
"""
REQUEST = Rig.request(IN=np.zeros((2, 3), np.float32))


def load(rig: Rig, text: str, said: list[str] | None = None) -> Joins | None:
    return load_strategy(rig.config(BATCHING + text), rig.files, (said if said is not None else []).append)


def named(path: str) -> str:
    return Rig.parameters(TRITON_BATCH_STRATEGY_PATH=path)


def rule(rig: Rig, source: str, said: list[str] | None = None) -> Joins:
    (rig.files.directory / "rule.py").write_text(source)
    joins = load(rig, named("rule.py"), said)
    assert joins is not None
    return joins


def test_a_rule_is_made_once_with_the_configuration(rig: Rig) -> None:
    (rig.files.directory / "batchstrategy.py").write_text(BY_SIZE)
    joins = load(rig, Rig.parameters(MAX_BYTES="48"))
    assert joins is not None
    assert joins([REQUEST], REQUEST)
    assert not joins([REQUEST, REQUEST], REQUEST)


def test_the_file_of_the_version_comes_before_that_of_the_model(rig: Rig) -> None:
    never = "def batch_strategy(config):\n    return lambda batch, request: False\n"
    (rig.files.version_directory / "batchstrategy.py").write_text(never)
    (rig.files.directory / "batchstrategy.py").write_text(BY_SIZE)
    joins = load(rig, Rig.parameters(MAX_BYTES="48"))
    assert joins is not None
    assert not joins([REQUEST], REQUEST)


def test_a_parameter_names_file_and_function(rig: Rig) -> None:
    (rig.files.version_directory / "rules.py").write_text(BY_SIZE.replace("batch_strategy", "by_size"))
    joins = load(rig, named("1/rules.py:by_size") + Rig.parameters(MAX_BYTES="48"))
    assert joins is not None
    assert joins([], REQUEST)


def test_a_rule_sees_what_a_request_is_like(rig: Rig) -> None:
    source = """
def batch_strategy(config):
    def include(batch, request):
        assert isinstance(batch, tuple) and len(batch) == 1
        told = (request.id, request.rows, request.priority, dict(request.parameters), dict(request.shapes))
        assert told == ("", 2, 0, {}, {"IN": (2, 3)}), told
        assert request.byte_size == 24
        return True
    return include
"""
    said: list[str] = []
    assert rule(rig, source, said)([REQUEST], REQUEST), said


def test_a_rule_that_raises_keeps_requests_apart_and_is_told_once(rig: Rig) -> None:
    said: list[str] = []
    joins = rule(rig, "batch_strategy = lambda config: lambda batch, request: 1 / 0", said)
    assert not joins([REQUEST], REQUEST)
    assert not joins([REQUEST], REQUEST)
    assert said == ["Custom batching include function failed: ZeroDivisionError('division by zero')"]


@pytest.mark.parametrize(
    ("files", "text", "message"),
    [
        ({}, named("no.py"), "Batching library path not found: no.py"),
        ({}, named("../other/rule.py"), "Batching library path escapes model repository."),
        ({}, named("/etc/passwd"), "Batching library path escapes model repository."),
        ({"rule.so": ""}, named("rule.so"), "Python files here, not libraries in C++: 'rule.so'"),
        ({"batchstrategy.so": ""}, "", "Python files here, not libraries in C++: 'batchstrategy.so'"),
        ({"rule.py": "import no_such_module"}, named("rule.py"), "ModuleNotFoundError"),
        ({"rule.py": "def batch_strategy(): pass"}, named("rule.py"), "TypeError"),
        (
            {"rule.py": "batch_strategy = lambda config: 7"},
            named("rule.py"),
            "has no function 'batch_strategy'",
        ),
        ({"rule.py": BY_SIZE}, named("rule.py:other"), "has no function 'other' that returns a rule"),
        ({"rule.py": BY_SIZE}, named("rule.py"), "failed: KeyError('MAX_BYTES')"),
    ],
)
def test_a_rule_that_cannot_be_had_keeps_its_model_from_loading(
    rig: Rig, files: dict[str, str], text: str, message: str
) -> None:
    for name, content in files.items():
        (rig.files.directory / name).write_text(content)
    with pytest.raises(InferError) as raised:
        load(rig, text)
    assert message in raised.value.message


def test_a_link_may_not_lead_out_of_the_model(rig: Rig) -> None:
    elsewhere = rig.files.directory.parent / "elsewhere.py"
    elsewhere.write_text(BY_SIZE)
    (rig.files.directory / "rule.py").symlink_to(elsewhere)
    with pytest.raises(InferError, match="escapes model repository"):
        load(rig, named("rule.py"))


def test_a_model_with_sequences_has_no_rule(rig: Rig) -> None:
    config = rig.config("sequence_batching { }" + named("rule.py"))
    with pytest.raises(InferError, match="cannot be specified with sequence batcher") as raised:
        load_strategy(config, rig.files, print)
    assert raised.value.fault is Fault.INVALID_ARG


def test_a_model_without_a_batcher_needs_none(rig: Rig) -> None:
    assert load_strategy(rig.config(named("rule.py")), rig.files, print) is None
    assert load(rig, "") is None
