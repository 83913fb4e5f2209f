"""OUTPUT0 tells what a request said beside its tensors."""

from __future__ import annotations  # Triton 2.51 has no classes yet while it imports a model

import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Shows a client what of its request reached the model."""

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        """Answer each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: pb_utils.InferenceRequest) -> pb_utils.InferenceResponse:
        said = {
            "id": request.request_id(),
            "correlation": request.correlation_id(),
            "flags": request.flags(),
            "timeout": request.timeout(),
            "outputs": sorted(request.requested_output_names()),
            "parameters": sorted(json.loads(request.parameters() or "{}").items()),
            "inputs": sorted((tensor.name(), list(tensor.shape())) for tensor in request.inputs()),
        }
        text = np.array([json.dumps(said)], np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", text)])
