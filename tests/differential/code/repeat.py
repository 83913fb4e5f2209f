"""As many responses as INPUT0 has elements; a negative element is an error instead."""

from __future__ import annotations  # Triton 2.51 has no classes yet while it imports a model

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """A decoupled model; an odd number of elements ends with a flag alone, an even one with a response."""

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> None:
        """Answer each request."""
        for request in requests:
            self._repeat(request)

    def _repeat(self, request: pb_utils.InferenceRequest) -> None:
        values = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy().tolist()
        sender = request.get_response_sender()
        final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        alone = len(values) % 2 == 1 or not values
        for left, value in zip(reversed(range(len(values))), values, strict=True):
            if value < 0:
                error = pb_utils.TritonError(f"{value} is negative", pb_utils.TritonError.INVALID_ARG)
                response = pb_utils.InferenceResponse(error=error)
            else:
                response = pb_utils.InferenceResponse(
                    [pb_utils.Tensor("OUTPUT0", np.array([value], np.int32))]
                )
            sender.send(response, flags=0 if left or alone else final)
        if alone:
            sender.send(flags=final)
