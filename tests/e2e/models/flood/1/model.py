"""As many large responses as it is asked for, sent as fast as can be from the thread of `execute`."""

import numpy as np
import triton_python_backend_utils as pb_utils

LOAD = np.zeros(64 * 1024, np.uint8)


class TritonPythonModel:
    """A decoupled model that logs what it has sent."""

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> None:
        """Answer one request after the other."""
        for request in requests:
            sender = request.get_response_sender()
            count = int(pb_utils.get_input_tensor_by_name(request, "COUNT").as_numpy()[0])
            for number in range(count):
                if request.is_cancelled():
                    break
                self._send(sender, number)
                pb_utils.Logger.log_info(f"sent {number}")
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    @staticmethod
    def _send(sender: pb_utils.InferenceResponseSender, number: int) -> None:
        outputs = [pb_utils.Tensor("NUMBER", np.array([number], np.int32)), pb_utils.Tensor("LOAD", LOAD)]
        sender.send(pb_utils.InferenceResponse(outputs))
