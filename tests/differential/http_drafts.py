"""Inference requests over HTTP in the making: good ones for every model, and what can be changed in them."""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from .models import DATATYPES, Model
from .tensors import ONLY_BINARY, as_bytes, count_of, elements, shape_of

HEADER: Final = "Inference-Header-Content-Length"

ODD: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2.5,
    1e300,
    2**31,
    2**63,
    -(2**63),
    2**64,
    "",
    "1",
    "x",
    [],
    [1],
    {},
    {"a": 1},
)
"""JSON values put where they do not belong."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, and what kind of request it is."""

    kind: str
    method: str
    path: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    chunked: bool = False


@dataclass(slots=True)
class Draft:
    """An inference request that can still be changed."""

    model: Model
    document: dict[str, Any]
    tail: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    version: str = ""

    def finished(self, kind: str) -> HttpRequest:
        """Return the request with a header where there is a binary tail."""
        head = json.dumps(self.document, ensure_ascii=False).encode()
        headers = list(self.headers)
        if self.tail and not any(name == HEADER for name, _ in headers):
            headers.append((HEADER, str(len(head))))
        version = f"/versions/{self.version}" if self.version else ""
        path = f"/v2/models/{self.model.name}{version}/infer"
        return HttpRequest(kind, "POST", path, head + self.tail, tuple(headers))


def good_draft(rng: Random, model: Model) -> Draft:
    draft = Draft(model, {})
    if rng.random() < 0.4:
        draft.document["id"] = rng.choice(("1", "a request", "größer", ""))
    rows = rng.randint(1, model.max_batch_size or 1)
    inputs: list[dict[str, Any]] = []
    for place in model.inputs:
        if "optional" in place.extra and rng.random() < 0.4:
            continue
        shape = shape_of(rng, model, place, rows)
        values = elements(rng, place.datatype, count_of(shape))
        if model.name.startswith("failing"):
            values = [rng.randint(0, 10)]
        entry: dict[str, Any] = {"name": place.name, "shape": shape, "datatype": place.datatype}
        if place.datatype in ONLY_BINARY or rng.random() < 0.35:
            raw = as_bytes(place.datatype, values)
            entry["parameters"] = {"binary_data_size": len(raw)}
            draft.tail += raw
        else:
            entry["data"] = values
        inputs.append(entry)
    draft.document["inputs"] = inputs
    if rng.random() < 0.6:
        draft.document["outputs"] = _outputs(rng, model)
    elif rng.random() < 0.4:
        draft.document["parameters"] = {"binary_data_output": rng.random() < 0.7}
    return draft


def _outputs(rng: Random, model: Model) -> list[dict[str, Any]]:
    chosen = [place for place in model.outputs if rng.random() < 0.8]
    rng.shuffle(chosen)
    outputs: list[dict[str, Any]] = []
    for place in chosen:
        output: dict[str, Any] = {"name": place.name}
        if rng.random() < 0.5 or place.datatype in ONLY_BINARY:
            output["parameters"] = {"binary_data": rng.random() < 0.8}
        outputs.append(output)
    return outputs


# --- one thing changed in a good request ---

Change = Callable[[Random, Draft], None]


def _any_input(rng: Random, draft: Draft) -> dict[str, Any]:
    inputs = draft.document.get("inputs")
    entries = [each for each in inputs if isinstance(each, dict)] if isinstance(inputs, list) else []
    return rng.choice(entries) if entries else {}


def _drop_member(rng: Random, draft: Draft) -> None:
    place = rng.choice((draft.document, _any_input(rng, draft)))
    if place:
        place.pop(rng.choice(sorted(place)))


def _odd_member(rng: Random, draft: Draft) -> None:
    entry = _any_input(rng, draft)
    name = rng.choice(
        ("id", "inputs", "outputs", "parameters", "name", "datatype", "data", "shape", "parameters")
    )
    place = draft.document if name in ("id", "inputs", "outputs") or rng.random() < 0.2 else entry
    value = deepcopy(rng.choice(ODD))
    if name == "shape" and isinstance(value, list):
        value = [rng.choice((0, 1, -1, "2", 2.5, None, True, 7, 1000))]
    place[name] = value


def _odd_element(rng: Random, draft: Draft) -> None:
    data = _any_input(rng, draft).get("data")
    if isinstance(data, list) and data:
        data[rng.randrange(len(data))] = deepcopy(rng.choice(ODD))


def _number_of_elements(rng: Random, draft: Draft) -> None:
    data = _any_input(rng, draft).get("data")
    if isinstance(data, list) and data:
        if rng.random() < 0.5:
            data.append(data[0])
        else:
            data.pop()


def _nest(rng: Random, draft: Draft) -> None:
    entry = _any_input(rng, draft)
    data = entry.get("data")
    if isinstance(data, list) and data:
        at = rng.randint(0, len(data))
        entry["data"] = [data[:at], [data[at:]]] if rng.random() < 0.7 else [[], data]


def _shape(rng: Random, draft: Draft) -> None:
    entry = _any_input(rng, draft)
    shape = entry.get("shape")
    if not isinstance(shape, list):
        return
    match rng.randrange(5):
        case 0:
            shape.append(rng.choice((1, 2, 0)))
        case 1 if shape:
            shape.pop(rng.randrange(len(shape)))
        case 2 if shape:
            shape[rng.randrange(len(shape))] = rng.choice((0, 1, 9, 1000))
        case 3 if shape:
            shape[rng.randrange(len(shape))] = rng.choice(ODD[:7])
        case _:
            shape.reverse()


def _datatype(rng: Random, draft: Draft) -> None:
    _any_input(rng, draft)["datatype"] = rng.choice(
        (*DATATYPES, "BF16", "STRING", "fp32", "", "INVALID", "TYPE_FP32")
    )


def _name(rng: Random, draft: Draft) -> None:
    _any_input(rng, draft)["name"] = rng.choice(("INPUT0", "INPUT1", "INPUT9", "input0", "", "OUTPUT0"))


def _number_of_inputs(rng: Random, draft: Draft) -> None:
    inputs = draft.document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        return
    if rng.random() < 0.5:
        removed = inputs.pop(rng.randrange(len(inputs)))
        if isinstance(removed, dict) and "data" not in removed:
            draft.tail = draft.tail[: rng.choice((0, len(draft.tail)))]
    else:
        extra = deepcopy(rng.choice(inputs))
        if rng.random() < 0.6 and isinstance(extra, dict):
            extra["name"] = "INPUT9"
        inputs.append(extra)


def _odd_output(rng: Random, draft: Draft) -> None:
    outputs = draft.document.setdefault("outputs", [])
    if not isinstance(outputs, list):
        return
    name = draft.model.outputs[0].name
    outputs.append(
        rng.choice(
            (
                {"name": "OUTPUT9"},
                {"name": name},
                {},
                {"name": deepcopy(rng.choice(ODD))},
                {"name": name, "parameters": deepcopy(rng.choice(ODD))},
                {"name": name, "parameters": {"binary_data": deepcopy(rng.choice(ODD))}},
                {"name": name, "parameters": {"other": 1}},
                deepcopy(rng.choice(ODD)),
            )
        )
    )


def _tail(rng: Random, draft: Draft) -> None:
    entry = _any_input(rng, draft)
    match rng.randrange(5):
        case 0:
            draft.tail += b"\x01" * rng.randint(1, 9)
        case 1:
            draft.tail = draft.tail[: -rng.randint(1, 9)]
        case 2:
            entry["parameters"] = {
                "binary_data_size": rng.choice((0, 1, 4, 12, 10**6, -1, "4", 2.5, None, 2**40))
            }
        case 3:
            entry.pop("data", None)
            entry["parameters"] = {"binary_data_size": rng.choice((0, 4, 8, 24))}
        case _:
            draft.tail = rng.randbytes(len(draft.tail))


def _request_parameter(rng: Random, draft: Draft) -> None:
    parameters = draft.document.setdefault("parameters", {})
    if not isinstance(parameters, dict):
        return
    name = rng.choice(
        (
            *("priority", "timeout", "binary_data_output", "sequence_id", "sequence_start", "sequence_end"),
            *("mine", "triton_mine", "", "headers", "mine too"),
        )
    )
    usual = {
        "priority": rng.randint(0, 4),
        "timeout": 10**7,
        "sequence_id": 7,
        "mine": rng.choice((1, "x", 2.5)),
    }
    parameters[name] = usual.get(name, True) if rng.random() < 0.4 else deepcopy(rng.choice(ODD))


def _header_length(rng: Random, draft: Draft) -> None:
    length = len(json.dumps(draft.document, ensure_ascii=False).encode())
    texts = [str(length + delta) for delta in (-1, 0, 1, 100)]
    texts += ["0", "-1", "", "abc", "1x", " 12", "+5", "99999999999", "-99999999999", "1.5", str(2**31 - 1)]
    draft.headers.append((HEADER, rng.choice(texts)))


def _version(rng: Random, draft: Draft) -> None:
    draft.version = rng.choice(("1", "2", "3", "0", "01", "99999999999", "9" * 30, "-1", "x"))


CHANGES: Final[dict[str, tuple[Change, ...]]] = {
    "members": (_drop_member, _odd_member, _odd_member),
    "elements": (_odd_element, _number_of_elements, _nest),
    "shapes and datatypes": (_shape, _datatype),
    "names": (_name, _number_of_inputs),
    "outputs": (_odd_output,),
    "binary tensors": (_tail, _header_length),
    "parameters": (_request_parameter,),
    "versions": (_version,),
}
