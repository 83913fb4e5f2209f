"""Requests are traced as the settings say, settings follow each other as Triton's do, and files are whole."""

import json
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deuteron.proto.datatypes import Datatype
from deuteron.proto.errors import InferError
from deuteron.proto.tensor import Tensor
from deuteron.proto.trace import MAX_SHOWN, Trace
from deuteron.proto.trace_context import TraceContext
from deuteron.proto.trace_level import TraceLevel
from deuteron.service import trace_file, trace_settings
from deuteron.service.settings import TraceMode, TraceSettings
from deuteron.service.tracer import Sampler, Sink, Tracer

ON = TraceLevel.TIMESTAMPS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.json"


Make = Callable[..., Tracer]


@pytest.fixture
def make(path: Path) -> Make:
    """Make a tracer with a file and these settings."""

    def make_(
        level: TraceLevel = TraceLevel.OFF, rate: int = 1000, count: int = -1, log_frequency: int = 0
    ) -> Tracer:
        return Tracer(TraceSettings(level, rate, count, log_frequency, path))

    return make_


def trace(tracer: Tracer, model: str = "m", requests: int = 1) -> int:
    """Send so many requests; return how many of them were traced."""
    traced = 0
    for _ in range(requests):
        sampled = tracer.sample(model)
        if sampled is not None:
            found, sampler = sampled
            found.model_name = model
            sampler.collect(found)
            traced += 1
    return traced


def ids(path: Path) -> list[int]:
    return [each["id"] for each in json.loads(path.read_text())]


# --- which requests ---


def test_by_default_nothing_is_traced(path: Path) -> None:
    tracer = Tracer(TraceSettings())
    assert not tracer.active
    assert trace(tracer, requests=5000) == 0
    tracer.close()
    assert not path.exists()


def test_one_of_so_many_requests_is_traced(make: Make) -> None:
    tracer = make(level=ON, rate=3)
    assert tracer.active
    assert trace(tracer, requests=10) == 3
    tracer.close()


def test_no_more_requests_are_traced_than_the_count_says_and_it_tells_what_is_left(make: Make) -> None:
    tracer = make(level=ON, rate=1, count=3)
    assert trace(tracer, requests=2) == 2
    assert tracer.settings().count == 1
    assert trace(tracer, requests=5) == 1
    assert tracer.settings().count == 0
    tracer.close()


def test_a_model_with_settings_of_its_own_is_sampled_on_its_own(make: Make) -> None:
    tracer = make(rate=1)
    tracer.change("m", {"level": ON})
    assert tracer.active
    assert (trace(tracer, "m"), trace(tracer, "other")) == (1, 0)
    tracer.close()


# --- settings ---


def test_fields_that_a_model_does_not_specify_follow_those_for_all(make: Make) -> None:
    tracer = make()
    tracer.change("m", {"rate": 7})
    tracer.change("", {"level": ON, "rate": 2, "count": 5})
    assert tracer.settings("m") == TraceSettings(ON, 7, 5, 0, tracer.settings().file)
    assert tracer.settings("other") == tracer.settings()
    tracer.close()


def test_what_is_let_go_falls_back(make: Make) -> None:
    tracer = make(rate=11, count=13)
    tracer.change("", {"rate": 2, "log_frequency": 3})
    tracer.change("m", {"rate": 5, "count": 6})
    tracer.change("m", {"rate": None})
    assert (tracer.settings("m").rate, tracer.settings("m").count) == (2, 6)
    tracer.change("", {"rate": None})
    assert (tracer.settings("m").rate, tracer.settings("").rate) == (11, 11)
    tracer.change("m", {"count": None})
    assert tracer.settings("m") == tracer.settings()
    tracer.close()


def test_settings_begin_to_count_anew_when_they_change(make: Make) -> None:
    tracer = make(level=ON, rate=2)
    assert trace(tracer) == 0
    tracer.change("", {"rate": 2})
    assert trace(tracer) == 0
    assert trace(tracer) == 1
    tracer.close()


@pytest.mark.parametrize(
    ("settings", "changes", "reason"),
    [
        (TraceSettings(), {"level": ON}, "trace file name is not given"),
        (TraceSettings(file=Path("x")), {"level": ON, "rate": 0}, "sample rate must be non-zero"),
    ],
)
def test_what_cannot_hold_together_is_refused_and_changes_nothing(
    settings: TraceSettings, changes: dict[str, Any], reason: str
) -> None:
    tracer = Tracer(settings)
    for model in ("", "m"):
        with pytest.raises(InferError) as caught:
            tracer.change(model, changes)
        assert caught.value.message == f"Attempting to set invalid trace setting :{reason}"
        assert tracer.settings(model) == settings


def test_a_change_for_all_that_a_model_cannot_follow_is_refused_as_a_whole(make: Make) -> None:
    tracer = make()
    tracer.change("m", {"level": ON})
    with pytest.raises(InferError):
        tracer.change("", {"rate": 0})
    assert tracer.settings().rate == 1000
    tracer.close()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("trace_rate", "x", "Unable to parse 'trace_rate', got: x"),
        (
            "trace_rate",
            "2147483648",
            "Unable to parse 'trace_rate', value is out of range [ 0, 4294967295 ], got: 2147483648",
        ),
        (
            "trace_rate",
            "-1",
            "Unable to parse 'trace_rate', value is out of range [ 0, 4294967295 ], got: -1",
        ),
        ("trace_count", "-2", "Unable to parse 'trace_count'. Expecting value >= -1, got: -2"),
        (
            "trace_count",
            "9" * 5000,
            f"Unable to parse 'trace_count', value is out of range [ -1, 2147483647 ], got: {'9' * 5000}",
        ),
        ("log_frequency", "", "Unable to parse 'log_frequency', got: "),
    ],
)
def test_numbers_are_refused_in_tritons_words(name: str, text: str, message: str) -> None:
    with pytest.raises(InferError) as caught:
        trace_settings.read_numbers({name: text}, ", got: ")
    assert caught.value.message == message


def test_numbers_are_read_as_c_reads_them() -> None:
    read = trace_settings.read_numbers({"trace_rate": " +12abc", "trace_count": "-1"}, "")
    assert read == {"rate": 12, "count": -1}


def test_unknown_levels_are_passed_over() -> None:
    assert trace_settings.read_level(["x", "TENSORS", "TIMESTAMPS"]) == ON | TraceLevel.TENSORS
    assert trace_settings.read_level(["x"]) is None
    assert trace_settings.read_level(["OFF"]) is TraceLevel.OFF
    with pytest.raises(InferError, match="Expect only one trace level 'OFF' is specified"):
        trace_settings.read_level(["OFF", "TENSORS"])


# --- files ---


def test_the_file_is_whole_when_the_tracer_is_closed(make: Make, path: Path) -> None:
    tracer = make(level=ON, rate=1)
    trace(tracer, requests=3)
    assert not path.exists()
    tracer.close()
    assert ids(path) == [1, 2, 3]


def test_traces_of_settings_that_end_go_to_one_file_with_those_of_the_next(make: Make, path: Path) -> None:
    tracer = make(level=ON, rate=1)
    trace(tracer)
    tracer.change("", {"rate": 2})
    trace(tracer, requests=4)
    tracer.close()
    assert ids(path) == [1, 2, 3]


def test_so_many_traces_go_to_a_file_with_the_next_number(make: Make, path: Path) -> None:
    tracer = make(level=ON, rate=1, log_frequency=2)
    trace(tracer, requests=5)
    tracer.close()
    assert [ids(path.with_name(f"trace.json.{number}")) for number in range(3)] == [[1, 2], [3, 4], [5]]
    assert not path.exists()


def test_the_traces_that_a_count_allows_go_to_a_numbered_file(make: Make, path: Path) -> None:
    tracer = make(level=ON, rate=2, count=2)
    trace(tracer, requests=10)
    tracer.close()
    assert ids(path.with_name("trace.json.0")) == [1, 2]
    assert not path.exists()


def test_a_trace_that_ends_after_its_settings_is_not_lost(make: Make, path: Path) -> None:
    tracer = make(level=ON, rate=1)
    sampled = tracer.sample("m")
    assert sampled is not None
    tracer.change("", {"level": TraceLevel.OFF})
    sampled[1].collect(sampled[0])
    tracer.close()
    assert ids(path) == [1]


def test_a_file_that_cannot_be_written_harms_nobody(tmp_path: Path) -> None:
    tracer = Tracer(TraceSettings(level=ON, rate=1, file=tmp_path / "no" / "such" / "file"))
    assert trace(tracer) == 1
    tracer.close()


def test_much_that_waits_is_written_early(make: Make, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deuteron.service.tracer.MOST_HELD", 1)
    tracer = make(level=ON, rate=1)
    trace(tracer, requests=3)
    tracer.close()
    assert ids(path) == [1, 2, 3]


# --- the format ---


@pytest.mark.parametrize(
    ("tensor", "data", "shape", "datatype"),
    [
        (Tensor.from_numpy(np.arange(3, dtype=np.int32).reshape(1, 3)), "0,1,2", "1,3", "INT32"),
        (Tensor.from_numpy(np.array([200, 1], np.uint8)), "200,1", "2", "UINT8"),
        (Tensor.from_numpy(np.array([True, False])), "1,0", "2", "BOOL"),
        (Tensor.from_numpy(np.array([1.5, 1e10, 1 / 3], np.float32)), "1.5,1e+10,0.333333", "3", "FP32"),
        (Tensor.from_numpy(np.array([1], np.float16)), "", "1", "FP16"),
        (Tensor.from_numpy(np.array([b"a", b'"\xff'], np.object_)), '"a",""\ufffd"', "2", "BYTES"),
    ],
)
def test_tensors_are_spelt_as_triton_spells_them(
    tensor: Tensor, data: str, shape: str, datatype: str
) -> None:
    traced = Trace(count(1), TraceLevel.TENSORS)
    traced.show("TENSOR_QUEUE_INPUT", {"I": tensor})
    _, told = json.loads(f"[{trace_file.spell(traced)}]")
    assert told == {
        "id": 1,
        "activity": "TENSOR_QUEUE_INPUT",
        "tensor": {"name": "I", "data": data, "shape": shape, "dtype": datatype},
    }
    assert tensor.datatype is Datatype[datatype]


def test_a_tensor_is_shown_as_it_was_when_it_was_seen() -> None:
    array = np.array([1, 2], np.int32)
    traced = Trace(count(1), TraceLevel.TENSORS)
    traced.show("TENSOR_QUEUE_INPUT", {"I": Tensor.from_numpy(array)})
    array[:] = 7
    assert '"data":"1,2"' in trace_file.spell(traced)


def test_a_huge_tensor_is_named_and_not_spelt() -> None:
    traced = Trace(count(1), TraceLevel.TENSORS)
    traced.show("TENSOR_QUEUE_INPUT", {"I": Tensor.from_numpy(np.zeros(MAX_SHOWN + 1, np.int8))})
    assert '"data":""' in trace_file.spell(traced)


def test_a_trace_names_its_model_its_request_and_its_parent() -> None:
    parent = Trace(count(1), ON)
    child = parent.child()
    child.model_name, child.model_version, child.request_id = "m", 3, 'quote " \n \udc80'
    child.mark("REQUEST_START", 17)
    child.show("TENSOR_QUEUE_INPUT", {"I": Tensor.from_numpy(np.zeros(1))})
    objects = json.loads(f"[{trace_file.spell(parent)}]")
    assert objects[1:] == [
        {"id": 2, "model_name": "m", "model_version": 3, "request_id": 'quote " \n ?', "parent_id": 1},
        {"id": 2, "timestamps": [{"name": "REQUEST_START", "ns": 17}]},
    ]


# --- spans ---


class Exported:
    """Takes traces in the place of a collector."""

    def __init__(self) -> None:
        self.traces: list[Trace] = []

    def export(self, trace: Trace) -> None:
        self.traces.append(trace)

    def close(self) -> None:
        pass


def sampler(exported: Exported, rate: int = 1, count_: int = -1, level: TraceLevel = ON) -> Sampler:
    return Sampler(TraceSettings(level, rate, count_), count(1), Sink(spans=exported))


def test_who_brings_a_trace_along_is_always_traced() -> None:
    caller = TraceContext(7, 8)
    for rate, count_ in ((0, -1), (1000, -1), (1, 0)):
        one = sampler(Exported(), rate, count_)
        assert one.sample() is None
        found = one.sample(caller)
        assert found is not None
        assert found.spans is not None
        assert (found.spans.caller, found.spans.request.trace_id) == (caller, 7)


def test_a_trace_of_its_own_is_sampled_and_exported_at_once() -> None:
    exported = Exported()
    one = sampler(exported, rate=2)
    assert one.sample() is None
    found = one.sample()
    assert found is not None
    one.collect(found)
    assert exported.traces == [found]


def test_spans_show_no_tensors() -> None:
    exported = Exported()
    assert sampler(exported, level=TraceLevel.TENSORS).sample(TraceContext(7, 8)) is None
    both = sampler(exported, level=TraceLevel.TENSORS | ON).sample()
    assert both is not None
    assert both.level is ON


def test_a_child_is_a_span_below_its_parent() -> None:
    parent = sampler(Exported()).sample()
    assert parent is not None
    child = parent.child()
    assert parent.spans is not None
    assert child.spans is not None
    assert child.spans.request.trace_id == parent.spans.request.trace_id
    assert child.spans.request.span_id != parent.spans.request.span_id
    assert child.spans.root is None


def test_without_the_sdk_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.delitem(sys.modules, "deuteron.service.span_export", raising=False)
    with pytest.raises(InferError, match=r"pip install 'deuteron\[otel\]'"):
        Tracer(TraceSettings(mode=TraceMode.OPENTELEMETRY))
