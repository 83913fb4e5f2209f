"""`InferenceResponse`: what model code answers one request with."""

import json
from collections.abc import Container, Mapping, Sequence
from typing import Self

from ....proto.message import ParameterValue, Response
from .errors import TritonError, TritonModelException
from .names import EXTENSION_MODULE
from .tensor import Tensor

Parameters = Mapping[str, bool | int | str]


class InferenceResponse:
    """Output tensors, or an error; an error makes the tensors meaningless."""

    __module__ = EXTENSION_MODULE
    __slots__ = ("_error", "_parameters", "tensors")

    tensors: list[Tensor]
    """The outputs; the method of the public API is `output_tensors`."""
    _parameters: Mapping[str, ParameterValue] | None

    def __init__(
        self,
        output_tensors: Sequence[Tensor] = (),
        error: TritonError | None = None,
        parameters: Parameters | None = None,
    ) -> None:
        self.tensors = list(output_tensors)
        for tensor in self.tensors:
            if not isinstance(tensor, Tensor):
                raise _not_a_tensor(tensor)
        if error is not None and not isinstance(error, TritonError):
            raise TypeError(f"InferenceResponse: error must be a TritonError, not {type(error).__name__}")
        self._error = error
        self._parameters = None if parameters is None else check_parameters(parameters)

    @classmethod
    def of_wire(cls, response: Response) -> Self:
        """Return what another model answered; the elements are not copied before the model looks at them."""
        self = cls.__new__(cls)
        self.tensors = [Tensor.of_input(*each) for each in response.outputs.items()]
        self._error = None if response.error is None else TritonError.of_infer_error(response.error)
        self._parameters = response.parameters or None
        return self

    def output_tensors(self) -> list[Tensor]:
        """Return the outputs."""
        return self.tensors

    def has_error(self) -> bool:
        """Tell whether this is an error."""
        return self._error is not None

    def error(self) -> TritonError | None:
        """Return the error, if it is one."""
        return self._error

    def parameters(self) -> str:
        """Return the parameters of the response, as JSON."""
        return json.dumps(self._parameters or {})

    def as_wire(self, wanted: Container[str], *, final: bool, kept: bool = False) -> Response:
        """Return what goes to the client: the outputs that it wanted, as they are now."""
        if self._error is not None:
            return Response(error=self._error.as_infer_error(), final=final)
        outputs = {
            tensor.label: tensor.as_wire(kept=kept) for tensor in self.tensors if tensor.label in wanted
        }
        return Response(outputs, self._parameters or {}, None, final)


def check_parameters(parameters: Parameters) -> Parameters:
    """Return a copy of parameters from model code; raises TritonModelException where one cannot travel."""
    if not isinstance(parameters, dict):
        raise TypeError(f"parameters must be a dict, got {type(parameters)}")
    for name, value in parameters.items():
        if not isinstance(name, str):
            raise TritonModelException(f"Expect parameters keys to have type str, found type {type(name)}")
        if not isinstance(value, bool | int | str):
            raise TritonModelException(
                f"Expect parameters values to have type bool/int/str, found type {type(value)}"
            )
    return dict(parameters)


def _not_a_tensor(found: object) -> Exception:
    if found is None:
        return TritonModelException("Output tensor for inference response should not be empty.")
    return TypeError(f"InferenceResponse: expected Tensor objects, got {type(found).__name__}")
