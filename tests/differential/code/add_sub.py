"""OUTPUT1 = INPUT0 - INPUT1, and then OUTPUT0 = INPUT0 + INPUT1: not in the order of the configuration."""

from __future__ import annotations  # Triton 2.51 has no classes yet while it imports a model

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """The sum and the difference of two tensors."""

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        """Answer each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: pb_utils.InferenceRequest) -> pb_utils.InferenceResponse:
        left = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
        right = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy()
        difference = pb_utils.Tensor("OUTPUT1", left - right)
        total = pb_utils.Tensor("OUTPUT0", left + right)
        return pb_utils.InferenceResponse([difference, total])
