"""From what a function answers to one request to the response that is sent.

An answer is a mapping from names of outputs to arrays, or the arrays alone in the order of the configuration.
Strictly, datatypes and shapes are held against the configuration; otherwise they go out as they are.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ...proto.config import ModelConfig
from ...proto.config.model_config import OutputSpec
from ...proto.datatypes import Datatype, datatype_of_numpy
from ...proto.message import Request, Response
from ...proto.tensor import Tensor


class Answers:
    """Makes the responses of one model."""

    def __init__(self, config: ModelConfig, *, strict: bool) -> None:
        self._specs = {spec.name: spec for spec in config.outputs}
        self._batching = config.max_batch_size > 0
        self._strict = strict

    def response(self, answer: object, request: Request, *, final: bool) -> Response:
        """Return the response that an answer comes to; raises TypeError or ValueError for what is none."""
        named = self._named(answer)
        if self._strict and (missing := self._specs.keys() - named.keys()):
            raise ValueError(f"the answer lacks {', '.join(map(repr, sorted(missing)))}")
        wanted = request.requested_outputs or named
        tensors = {name: self._tensor(name, named[name], request) for name in named if name in wanted}
        return Response(tensors, final=final)

    def _named(self, answer: object) -> Mapping[str, object]:
        if isinstance(answer, Mapping):
            for name in answer:
                if name not in self._specs:
                    raise ValueError(f"the model has no output {name!r}")
            return answer
        if isinstance(answer, Sequence) and not isinstance(answer, str | bytes):
            if len(answer) != len(self._specs):
                raise ValueError(f"the answer has {len(answer)} outputs, the model {len(self._specs)}")
            return dict(zip(self._specs, answer, strict=True))
        raise TypeError(
            "the answer to a request is a dictionary of arrays or a list of them, not "
            f"{type(answer).__name__}"
        )

    def _tensor(self, name: str, value: object, request: Request) -> Tensor:
        spec = self._specs[name]
        array = np.asarray(value)
        datatype = datatype_of_numpy(array.dtype)
        if spec.datatype is Datatype.BF16 and datatype is Datatype.UINT16:
            datatype = Datatype.BF16
        if datatype is Datatype.INVALID:
            raise TypeError(f"output '{name}' is an array of {array.dtype}, which no tensor can hold")
        if self._strict:
            self._check(spec, datatype, array.shape, request)
        return Tensor.from_numpy(array, datatype)

    def _check(self, spec: OutputSpec, datatype: Datatype, shape: tuple[int, ...], request: Request) -> None:
        if datatype is not spec.datatype:
            raise TypeError(
                f"output '{spec.name}' is {datatype.wire_name}, the model says {spec.datatype.wire_name}"
            )
        rows = (request.batch_size,) if self._batching else ()
        dims = (*rows, *(spec.dims if spec.reshape is None else spec.reshape))
        fits = len(shape) == len(dims) and all(
            dim in (-1, size) for dim, size in zip(dims, shape, strict=True)
        )
        if not fits:
            raise ValueError(f"output '{spec.name}' has shape {list(shape)}, the model says {list(dims)}")
