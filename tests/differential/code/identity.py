"""Every output is the input whose name has the same number."""

from __future__ import annotations  # Triton 2.51 has no classes yet while it imports a model

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Gives back what it is given; an optional input that is absent has no output."""

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        """Answer each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: pb_utils.InferenceRequest) -> pb_utils.InferenceResponse:
        given = sorted(request.inputs(), key=lambda tensor: tensor.name())
        outputs = [
            pb_utils.Tensor(tensor.name().replace("INPUT", "OUTPUT"), tensor.as_numpy()) for tensor in given
        ]
        return pb_utils.InferenceResponse(outputs)
