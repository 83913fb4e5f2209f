"""What INPUT0 asks for is what goes wrong."""

from __future__ import annotations  # Triton 2.51 has no classes yet while it imports a model

import numpy as np
import triton_python_backend_utils as pb_utils

CODES = ("UNKNOWN", "INTERNAL", "NOT_FOUND", "INVALID_ARG", "UNAVAILABLE", "UNSUPPORTED", "ALREADY_EXISTS")


class TritonPythonModel:
    """0 is answered, 1 to 7 are errors of their codes, 8 and 9 are raised, 10 answers without a tensor."""

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        """Answer each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: pb_utils.InferenceRequest) -> pb_utils.InferenceResponse:
        asked = int(pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy().ravel()[0])
        if 1 <= asked <= len(CODES):
            code = getattr(pb_utils.TritonError, CODES[asked - 1])
            return pb_utils.InferenceResponse(
                error=pb_utils.TritonError(f"error {asked} was asked for", code)
            )
        if asked == 8:
            raise ValueError("8 was asked for")
        if asked == 9:
            raise pb_utils.TritonModelException("9 was asked for")
        outputs = [] if asked == 10 else [pb_utils.Tensor("OUTPUT0", np.array([asked], np.int32))]
        return pb_utils.InferenceResponse(outputs)
