"""Ask three models one after the other, as an ensemble of the three would."""

from typing import Any

import triton_python_backend_utils as pb_utils

STEPS = ("step0", "step1", "step2")


class TritonPythonModel:
    """A chain in code."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return one response per request, in order."""
        return [self.answer(request) for request in requests]

    @staticmethod
    def answer(request: Any) -> Any:
        """Return what comes out of the last model, or its error."""
        tensor = pb_utils.get_input_tensor_by_name(request, "INPUT0")
        for step in STEPS:
            given = pb_utils.Tensor("INPUT0", tensor.as_numpy())
            asked = pb_utils.InferenceRequest(
                inputs=[given], requested_output_names=["OUTPUT0"], model_name=step
            )
            response = asked.exec()
            if response.has_error():
                return pb_utils.InferenceResponse(error=response.error())
            tensor = pb_utils.get_output_tensor_by_name(response, "OUTPUT0")
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", tensor.as_numpy())])
