"""Triton's trace file: a JSON array of small objects, several for each trace.

Traces are spelt and files written on a thread of their own, in the order they were asked for, so that neither
large tensors nor a slow disk hold up a request.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import structlog

from ..proto.datatypes import Datatype
from ..proto.tensor import Tensor
from ..proto.trace import ShownTensor, Trace

log: Final = structlog.stdlib.get_logger(__name__)


def spell(trace: Trace) -> str:
    """Return the objects of a trace and of its children, separated by commas."""
    return ",".join(orjson.dumps(each).decode() for each in _objects(trace))


def _objects(trace: Trace) -> Iterator[dict[str, Any]]:
    about: dict[str, Any] = {
        "id": trace.id,
        "model_name": trace.model_name,
        "model_version": trace.model_version,
    }
    if trace.request_id:
        about["request_id"] = trace.request_id.encode(errors="replace").decode()
    if trace.parent_id:
        about["parent_id"] = trace.parent_id
    yield about
    for shown in trace.tensors:
        yield {"id": trace.id, "activity": shown.activity, "tensor": _tensor(shown)}
    for activity, moment in trace.moments:
        yield {"id": trace.id, "timestamps": [{"name": activity, "ns": moment}]}
    yield from chain.from_iterable(map(_objects, trace.children))


def _tensor(shown: ShownTensor) -> dict[str, str]:
    return {
        "name": shown.name,
        "data": "" if shown.elements is None else _data(shown.elements),
        "shape": ",".join(map(str, shown.shape)),
        "dtype": shown.datatype.wire_name,
    }


def _data(tensor: Tensor) -> str:
    """Return the elements of a tensor; Triton writes none of the short floats."""
    if tensor.datatype in (Datatype.FP16, Datatype.BF16):
        return ""
    array = tensor.numpy().reshape(-1)
    if tensor.datatype is Datatype.BYTES:
        return ",".join(f'"{bytes(each).decode(errors="replace")}"' for each in array)
    if tensor.datatype in (Datatype.FP32, Datatype.FP64):
        return ",".join(f"{each:g}" for each in array.tolist())
    return ",".join(map(str, array.astype(np.uint8).tolist() if array.dtype == np.bool_ else array.tolist()))


class TraceFile:
    """The file that traces go to, and its numbered siblings."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._index = 0
        self._is_open = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="trace_file")

    def append(self, traces: Sequence[Trace]) -> None:
        """Have traces written to the file itself."""
        head = "," if self._is_open else "["
        mode = "a" if self._is_open else "w"
        self._is_open = True
        self._thread.submit(_write, self._path, mode, (head, traces, ""))

    def save(self, traces: Sequence[Trace]) -> None:
        """Have traces written to a file of their own, next to the others."""
        path = self._path.with_name(f"{self._path.name}.{self._index}")
        self._index += 1
        self._thread.submit(_write, path, "w", ("[", traces, "]"))

    def close(self) -> None:
        """Complete the file; blocks until all is written."""
        if self._is_open:
            self._thread.submit(_write, self._path, "a", ("", (), "]"))
        self._thread.shutdown()


def _write(path: Path, mode: str, content: tuple[str, Sequence[Trace], str]) -> None:
    """Spell and write traces between a head and a tail; on the thread."""
    head, traces, tail = content
    try:
        text = ",".join(map(spell, traces))
        with path.open(mode, encoding="utf-8") as file:
            file.write(f"{head}{text}{tail}")
    except Exception as error:  # noqa: BLE001 - nobody waits for the outcome, so it must not get lost
        log.error("failed creating trace file: %s", error)  # noqa: TRY400 - mostly the operator's mistake
