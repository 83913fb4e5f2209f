"""Calls over gRPC: good ones for every model and method, and the same with one or two things changed.

Plain and decoupled models never share a stream here: that ends Triton 2.51.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

from deuteron.proto.schema import grpc_service_pb2 as pb

from .models import DATATYPES, MODELS, Model
from .tensors import ONLY_BINARY, as_bytes, count_of, elements, shape_of

WITHOUT_CLASSES: Final = frozenset({"BOOL", "FP16", "BYTES"})
PLAIN: Final = tuple(model for model in MODELS if not model.decoupled)
DECOUPLED: Final = tuple(model for model in MODELS if model.decoupled)

_FIELDS: Final = {
    "BOOL": "bool_contents",
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


@dataclass(frozen=True, slots=True)
class GrpcRequest:
    """One call with the messages it sends, several on a stream only, and what kind of request it is."""

    kind: str
    method: str
    messages: tuple[bytes, ...]
    metadata: tuple[tuple[str, str], ...] = ()

    @property
    def streams(self) -> bool:
        """Whether it is a call of streams."""
        return self.method == "ModelStreamInfer"


def _field(datatype: str) -> str:
    return _FIELDS.get(datatype) or ("uint_contents" if datatype.startswith("U") else "int_contents")


def good_message(rng: Random, model: Model) -> pb.ModelInferRequest:
    """Return a message that a model should serve."""
    message = pb.ModelInferRequest(model_name=model.name)
    if rng.random() < 0.5:
        message.id = rng.choice(("1", "a request", "größer"))
    rows = rng.randint(1, model.max_batch_size or 1)
    given = [place for place in model.inputs if "optional" not in place.extra or rng.random() < 0.6]
    typed = rng.random() < 0.5 and not any(place.datatype in ONLY_BINARY for place in given)
    for place in given:
        shape = shape_of(rng, model, place, rows)
        values = elements(rng, place.datatype, count_of(shape))
        if model.name.startswith("failing"):
            values = [rng.randint(0, 10)]
        elif model.decoupled:
            values = [rng.randint(-2, 9) for _ in values]
        entry = message.inputs.add(name=place.name, datatype=place.datatype, shape=shape)
        if typed:
            texts = [str(value).encode() for value in values] if place.datatype == "BYTES" else values
            getattr(entry.contents, _field(place.datatype)).extend(texts)
        else:
            message.raw_input_contents.append(as_bytes(place.datatype, values))
    if rng.random() < 0.4:
        for place in rng.sample(model.outputs, rng.randint(1, len(model.outputs))):
            message.outputs.add(name=place.name)
    return message


# --- one thing changed in a good message ---

Change = Callable[[Random, pb.ModelInferRequest], None]


def _model(rng: Random, message: pb.ModelInferRequest) -> None:
    message.model_version = rng.choice(("1", "3", "9", "0", "-1", "x", "1x", " 1", "9" * 25, "1.5"))
    if rng.random() < 0.3:
        message.model_name = rng.choice(("", "absent", "versioned"))


def _tensor(rng: Random, message: pb.ModelInferRequest) -> None:
    if not message.inputs:
        return
    entry = rng.choice(message.inputs)
    match rng.randrange(4):
        case 0:
            entry.name = rng.choice(("INPUT0", "INPUT1", "INPUT9", ""))
        case 1:
            entry.datatype = rng.choice((*DATATYPES, "BF16", "", "fp32", "TYPE_FP32"))
        case 2:
            shape = list(entry.shape)
            shape.append(rng.choice((0, 1, 2, -1)))
            entry.shape[:] = rng.choice((shape, shape[1:], shape[:-2], []))
        case _ if entry.shape:
            shape = list(entry.shape)
            shape[rng.randrange(len(shape))] = rng.choice((0, -1, -5, 2, 9, 1000))
            entry.shape[:] = shape


def _contents(rng: Random, message: pb.ModelInferRequest) -> None:
    raw = message.raw_input_contents
    entry = rng.choice(message.inputs) if message.inputs else message.inputs.add()
    match rng.randrange(8):
        case 0:
            raw.append(rng.randbytes(rng.randint(0, 9)))
        case 1 if raw:
            del raw[-1]
        case 2 if raw:
            raw[0] = raw[0] + b"\x00" * rng.randint(1, 5)
        case 3 if raw:
            raw[0] = raw[0][: -rng.randint(1, 5)]
        case 4 if raw:
            raw[0] = rng.randbytes(len(raw[0]))
        case 5:
            entry.contents.int_contents.append(1)
        case 6:
            entry.contents.bytes_contents.append(b"x")
        case _:
            entry.contents.SetInParent()


def _inputs(rng: Random, message: pb.ModelInferRequest) -> None:
    if rng.random() < 0.5 and message.inputs:
        del message.inputs[rng.randrange(len(message.inputs))]
    else:
        message.inputs.add(
            name=rng.choice(("INPUT0", "INPUT9")), datatype="INT32", shape=[1]
        ).contents.int_contents.append(1)


def _parameter(rng: Random) -> pb.InferParameter:
    return rng.choice(
        (
            pb.InferParameter(),
            pb.InferParameter(bool_param=rng.random() < 0.5),
            pb.InferParameter(int64_param=rng.choice((0, 1, 2, 3, 7, 10**7, -1, -(2**63)))),
            pb.InferParameter(string_param=rng.choice(("", "x", "y" * 200))),
            pb.InferParameter(double_param=2.5),
        )
    )


def _parameters(rng: Random, message: pb.ModelInferRequest) -> None:
    names = ("sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "mine", "", "headers")
    name = rng.choice((*names, "triton_mine", "triton_enable_empty_final_response", "binary_data_output"))
    message.parameters[name].CopyFrom(_parameter(rng))


def _outputs(rng: Random, message: pb.ModelInferRequest) -> None:
    match rng.randrange(3):
        case 0:
            message.outputs.add(name=rng.choice(("OUTPUT9", "", "INPUT0")))
        case _:
            if not message.outputs:
                message.outputs.add(name="OUTPUT0")
            output = rng.choice(message.outputs)
            output.parameters[rng.choice(("mine", "binary_data"))].CopyFrom(_parameter(rng))


CHANGES: Final[dict[str, Change]] = {
    "models and versions": _model,
    "inputs": _tensor,
    "contents": _contents,
    "names": _inputs,
    "parameters": _parameters,
    "outputs": _outputs,
}


# --- kinds of calls ---


def good(rng: Random) -> GrpcRequest:
    """Return a call that should be served."""
    message = good_message(rng, rng.choice(MODELS))
    return GrpcRequest("good", "ModelInfer", (message.SerializeToString(),))


def changed(rng: Random) -> GrpcRequest:
    """Return a call with one thing changed in its message; sometimes with a second one."""
    message = good_message(rng, rng.choice(PLAIN))
    kind = rng.choice(sorted(CHANGES))
    CHANGES[kind](rng, message)
    if rng.random() < 0.2:
        kind = "two changes"
        CHANGES[rng.choice(sorted(CHANGES))](rng, message)
    return GrpcRequest(kind, "ModelInfer", (message.SerializeToString(),))


def classes(rng: Random) -> GrpcRequest:
    """Return a call for classes instead of values."""
    fit = [model for model in PLAIN if model.outputs[0].datatype not in WITHOUT_CLASSES]
    model = rng.choice(
        [model for model in fit if model.name.startswith("labelled")] if rng.random() < 0.6 else fit
    )
    message = good_message(rng, model)
    del message.outputs[:]
    output = message.outputs.add(name=model.outputs[0].name)
    output.parameters["classification"].CopyFrom(_parameter(rng))
    return GrpcRequest("classes", "ModelInfer", (message.SerializeToString(),))


def broken(rng: Random) -> GrpcRequest:
    """Return a call whose message has a byte too many, too few or another."""
    body = bytearray(good_message(rng, rng.choice(PLAIN)).SerializeToString())
    at = rng.randrange(len(body))
    match rng.randrange(3):
        case 0:
            del body[at]
        case 1:
            body[at] = rng.randrange(256)
        case _:
            body.insert(at, rng.randrange(256))
    return GrpcRequest("broken bytes", "ModelInfer", (bytes(body),))


def stream(rng: Random) -> GrpcRequest:
    """Return a stream of some requests to plain models, good and changed."""
    messages = []
    for _ in range(rng.randint(1, 4)):
        message = good_message(rng, rng.choice(PLAIN))
        if rng.random() < 0.4:
            CHANGES[rng.choice(sorted(CHANGES))](rng, message)
        messages.append(message.SerializeToString())
    ends = (("triton_grpc_error", "true"),) if rng.random() < 0.2 and len(messages) == 1 else ()
    return GrpcRequest("stream", "ModelStreamInfer", tuple(messages), ends)


def decoupled_stream(rng: Random) -> GrpcRequest:
    """Return a stream of one request to a model that answers as often as it likes."""
    message = good_message(rng, rng.choice(DECOUPLED))
    if rng.random() < 0.4:
        message.parameters["triton_enable_empty_final_response"].bool_param = rng.random() < 0.8
    if rng.random() < 0.2:
        message.inputs[0].shape[:] = [0]
        if message.inputs[0].HasField("contents"):
            message.inputs[0].ClearField("contents")
            message.inputs[0].contents.SetInParent()
        else:
            message.raw_input_contents[0] = b""
    elif rng.random() < 0.2:
        CHANGES[rng.choice(sorted(CHANGES))](rng, message)
    ends = (("triton_grpc_error", "true"),) if rng.random() < 0.2 else ()
    return GrpcRequest("decoupled stream", "ModelStreamInfer", (message.SerializeToString(),), ends)


def information(rng: Random) -> GrpcRequest:
    """Return a call that asks for information."""
    name = rng.choice([model.name for model in MODELS] + ["absent", ""])
    version = rng.choice(("", "", "1", "3", "9", "0", "-1", "x", "9" * 25))
    method, message = rng.choice(
        (
            ("ServerLive", pb.ServerLiveRequest()),
            ("ServerReady", pb.ServerReadyRequest()),
            ("ServerMetadata", pb.ServerMetadataRequest()),
            ("ModelReady", pb.ModelReadyRequest(name=name, version=version)),
            ("ModelMetadata", pb.ModelMetadataRequest(name=name, version=version)),
            ("ModelConfig", pb.ModelConfigRequest(name=name, version=version)),
            ("ModelStatistics", pb.ModelStatisticsRequest(name=name or "absent", version=version)),
            ("RepositoryIndex", pb.RepositoryIndexRequest(ready=rng.random() < 0.5)),
            ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name=name)),
            ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name=name)),
        )
    )
    body: bytes = message.SerializeToString()
    return GrpcRequest(f"information, {method}", method, (body,))


def counters(rng: Random) -> Iterator[GrpcRequest]:
    """Yield some calls for each model, and then one that asks for its counters: for servers that are new."""
    for model in PLAIN:
        for _ in range(5):
            message = good_message(rng, model)
            if rng.random() < 0.3:
                message.inputs[0].datatype = "BF16"
            yield GrpcRequest("counters", "ModelInfer", (message.SerializeToString(),))
    for model in PLAIN:
        asked = pb.ModelStatisticsRequest(name=model.name)
        yield GrpcRequest("counters", "ModelStatistics", (asked.SerializeToString(),))


KINDS: Final = (
    (good, 20),
    (changed, 40),
    (classes, 6),
    (broken, 6),
    (stream, 12),
    (decoupled_stream, 6),
    (information, 10),
)


def grpc_requests(rng: Random, number: int) -> Iterator[GrpcRequest]:
    """Return so many calls of all kinds."""
    makers, weights = zip(*KINDS, strict=True)
    for maker in rng.choices(makers, weights, k=number):
        yield maker(rng)
