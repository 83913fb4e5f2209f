"""As many responses as the input has elements, each from a thread of the model's own."""

import threading

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray


class TritonPythonModel:
    """A decoupled model; a negative element is an error instead of a response."""

    def initialize(self, args: dict[str, str]) -> None:
        """Begin without any thread."""
        self._threads: list[threading.Thread] = []

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> None:
        """Have each request answered beside the next ones."""
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy().copy()
            sender = request.get_response_sender()
            thread = threading.Thread(target=self._repeat, args=(values, sender))
            self._threads.append(thread)
            thread.start()

    def _repeat(self, values: NDArray[np.int32], sender: pb_utils.InferenceResponseSender) -> None:
        for index, value in enumerate(values):
            if value < 0:
                error = pb_utils.TritonError(f"{value} is negative", pb_utils.TritonError.INVALID_ARG)
                sender.send(pb_utils.InferenceResponse(error=error))
                continue
            out = pb_utils.Tensor("OUT", np.array([value], np.int32))
            number = pb_utils.Tensor("INDEX", np.array([index], np.uint32))
            sender.send(pb_utils.InferenceResponse([out, number]))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def finalize(self) -> None:
        """Wait for what is still being said."""
        for thread in self._threads:
            thread.join()
