"""The models that both servers serve, as a table: requests are made from it, and a repository."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CODE: Final = Path(__file__).parent / "code"
ANY: Final = -1


@dataclass(frozen=True, slots=True)
class Place:
    """An input or an output: its datatype on the wire, and its dimensions without that of the batch."""

    name: str
    datatype: str
    dims: tuple[int, ...]
    extra: str = ""

    def text(self) -> str:
        """Return it as a configuration spells it."""
        kind = "STRING" if self.datatype == "BYTES" else self.datatype
        dims = ", ".join(map(str, self.dims))
        return f'{{ name: "{self.name}" data_type: TYPE_{kind} dims: [ {dims} ] {self.extra} }}'


@dataclass(frozen=True, slots=True)
class Model:
    """A model; `code` is the file it runs, none for an ensemble."""

    name: str
    code: str
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    max_batch_size: int = 0
    extra: str = ""
    versions: tuple[str, ...] = ("1",)
    decoupled: bool = False

    def text(self) -> str:
        """Return the configuration."""
        how = 'backend: "python"' if self.code else 'platform: "ensemble"'
        places = [f"input {place.text()}" for place in self.inputs]
        places += [f"output {place.text()}" for place in self.outputs]
        batch = f"max_batch_size: {self.max_batch_size}"
        return "\n".join((f'name: "{self.name}"', how, batch, *places, self.extra))


NUMBERS: Final = (
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
)
DATATYPES: Final = ("BOOL", *NUMBERS, "BYTES")


def _pair(datatype: str, *dims: int, number: int = 0, extra: str = "") -> tuple[Place, Place]:
    return (
        Place(f"INPUT{number}", datatype, dims, extra),
        Place(f"OUTPUT{number}", datatype, dims),
    )


def _identity(name: str, datatype: str, *dims: int, batch: int = 0, extra: str = "") -> Model:
    given, returned = _pair(datatype, *dims)
    return Model(name, "identity", (given,), (returned,), batch, extra)


def _wide(name: str, code: str, *pairs: tuple[Place, Place], batch: int = 0, extra: str = "") -> Model:
    inputs, outputs = zip(*pairs, strict=True)
    return Model(name, code, inputs, outputs, batch, extra)


_ALL: Final = [_pair(datatype, 2, number=number) for number, datatype in enumerate(DATATYPES)]
_ADD_SUB: Final = (_pair("INT32", 4), _pair("INT32", 4, number=1))
_LABELS: Final = "".join(f"label {number}\n" for number in range(5))

_STEPS: Final = """ensemble_scheduling { step [
  { model_name: "add_sub" model_version: -1
    input_map { key: "INPUT0" value: "INPUT0" } input_map { key: "INPUT1" value: "INPUT1" }
    output_map { key: "OUTPUT0" value: "sum" } output_map { key: "OUTPUT1" value: "difference" } },
  { model_name: "dynamic" model_version: -1
    input_map { key: "INPUT0" value: "sum" } output_map { key: "OUTPUT0" value: "OUTPUT0" } },
  { model_name: "dynamic" model_version: -1
    input_map { key: "INPUT0" value: "difference" } output_map { key: "OUTPUT0" value: "OUTPUT1" } }
] }
"""

_FAILING_STEP: Final = """ensemble_scheduling { step [
  { model_name: "failing" model_version: -1
    input_map { key: "INPUT0" value: "INPUT0" } output_map { key: "OUTPUT0" value: "OUTPUT0" } }
] }
"""

_QUEUES: Final = """dynamic_batching { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 100
  priority_levels: 3 default_priority_level: 2 }
"""

MODELS: Final[Sequence[Model]] = (
    *(_identity(f"identity_{datatype.lower()}", datatype, ANY) for datatype in DATATYPES),
    _identity("fixed", "INT32", 2, 3),
    _identity("half_fixed", "UINT16", 2, ANY),
    _identity("free", "FP32", ANY, ANY),
    _identity("one_string", "BYTES", 1),
    _identity("batched_strings", "BYTES", ANY, batch=4),
    _identity("batched", "FP32", 3, batch=8),
    _identity("batched_free", "INT64", ANY, batch=8),
    _identity("dynamic", "INT32", 4, batch=8, extra=_QUEUES),
    Model(
        "reshaped",
        "identity",
        (Place("INPUT0", "INT32", (1,), "reshape: { shape: [ ] }"),),
        (Place("OUTPUT0", "INT32", (1,), "reshape: { shape: [ ] }"),),
        4,
    ),
    Model(
        "labelled",
        "identity",
        (Place("INPUT0", "FP32", (6,)),),
        (Place("OUTPUT0", "FP32", (6,), 'label_filename: "labels.txt"'),),
        4,
    ),
    Model(
        "labelled_numbers",
        "identity",
        (Place("INPUT0", "INT32", (2, 3)),),
        (Place("OUTPUT0", "INT32", (2, 3), 'label_filename: "labels.txt"'),),
    ),
    _wide("add_sub", "add_sub", *_ADD_SUB, batch=8),
    _wide("plain_add_sub", "add_sub", _pair("FP32", 4), _pair("FP32", 4, number=1)),
    _wide("everything", "identity", *_ALL),
    _wide("everything_batched", "identity", *_ALL, batch=4),
    _wide(
        "optional",
        "identity",
        _pair("FP32", 2),
        _pair("INT32", ANY, number=1, extra="optional: true"),
        _pair("BYTES", 1, number=2, extra="optional: true"),
    ),
    Model("telling", "telling", (Place("INPUT0", "INT32", (ANY,)),), (Place("OUTPUT0", "BYTES", (1,)),)),
    Model("failing", "failing", (Place("INPUT0", "INT32", (1,)),), (Place("OUTPUT0", "INT32", (1,)),)),
    _wide("ensemble", "", *_ADD_SUB, batch=8, extra=_STEPS),
    Model(
        "failing_ensemble",
        "",
        (Place("INPUT0", "INT32", (1,)),),
        (Place("OUTPUT0", "INT32", (1,)),),
        0,
        _FAILING_STEP,
    ),
    Model(
        "versioned",
        "identity",
        (Place("INPUT0", "INT32", (2,)),),
        (Place("OUTPUT0", "INT32", (2,)),),
        0,
        "version_policy: { all {} }",
        ("1", "3"),
    ),
    Model(
        "repeat",
        "repeat",
        (Place("INPUT0", "INT32", (ANY,)),),
        (Place("OUTPUT0", "INT32", (1,)),),
        0,
        "model_transaction_policy { decoupled: true }",
        decoupled=True,
    ),
)


def write_repository(root: Path) -> Path:
    """Write all models under a directory and return it."""
    for model in MODELS:
        home = root / model.name
        for version in model.versions:
            (home / version).mkdir(parents=True)
            if model.code:
                shutil.copy(CODE / f"{model.code}.py", home / version / "model.py")
        (home / "config.pbtxt").write_text(model.text())
        if "labels.txt" in model.text():
            (home / "labels.txt").write_text(_LABELS)
    return root
