"""The number of the version that answers."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Answers with what it was told when it was loaded."""

    def initialize(self, args: dict[str, str]) -> None:
        """Remember the version."""
        self._version = np.array([int(args["model_version"])], np.int32)

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        """Answer each request with the version."""
        return [pb_utils.InferenceResponse([pb_utils.Tensor("VERSION", self._version)]) for _ in requests]
