"""Answer INPUT0 as OUTPUT0: a tensor of 602 KB, in and out."""

from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """The identity of one FP32 tensor of shape [rows, 3, 224, 224]."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return one response per request, in order."""
        responses = []
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, "INPUT0")
            output = pb_utils.Tensor("OUTPUT0", tensor.as_numpy())
            responses.append(pb_utils.InferenceResponse([output]))
        return responses
