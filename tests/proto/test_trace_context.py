"""The two headers of W3C's Trace Context: what is taken from them, and what is handed on."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deuteron.proto.trace_context import MAX_STATE, TraceContext, new_trace, read_context

TRACE = "0af7651916cd43dd8448eb211c12666c"
SPAN = "b7ad6b7169242424"
PARENT = f"00-{TRACE}-{SPAN}-01"

contexts = st.builds(
    TraceContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=MAX_STATE),
)


@given(contexts)
def test_what_is_handed_on_is_what_the_called_one_reads(context: TraceContext) -> None:
    assert read_context(json.loads(context.as_json()).items()) == context


@pytest.mark.parametrize("name", ["traceparent", "Traceparent", b"TRACEPARENT"])
@pytest.mark.parametrize("parent", [PARENT, PARENT.encode(), f" {PARENT} ", f"cc-{TRACE}-{SPAN}-00-more"])
def test_a_parent_is_found_among_headers(name: str | bytes, parent: str | bytes) -> None:
    found = read_context([("accept", "x"), (name, parent), (b"tracestate", b"a=1,b=2")])
    assert found == TraceContext(int(TRACE, 16), int(SPAN, 16), "a=1,b=2")


@pytest.mark.parametrize(
    "parent",
    [
        "",
        PARENT[:-1],
        PARENT + "-more",
        PARENT.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        PARENT.replace("-", "_"),
        b"\xff" * 55,
    ],
)
def test_what_is_no_parent_is_none(parent: str | bytes) -> None:
    assert read_context([("traceparent", parent), ("tracestate", "a=1")]) is None


@pytest.mark.parametrize("state", ["x" * (MAX_STATE + 1), "a=\t1", "ä=1"])
def test_a_state_that_cannot_be_handed_on_is_dropped(state: str) -> None:
    found = read_context([("traceparent", PARENT), ("tracestate", state)])
    assert found is not None
    assert found.state == ""


def test_a_child_is_another_span_of_the_same_trace() -> None:
    parent = TraceContext(7, 8, "a=1")
    child = parent.child()
    assert (child.trace_id, child.state) == (7, "a=1")
    assert child.span_id != parent.span_id
    assert new_trace().trace_id != new_trace().trace_id
