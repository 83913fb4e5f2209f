"""Round numbers as each request wishes: a parameter says how finely, a header for whom."""

import numpy as np

from deuteron import ModelConfig, Server, ServerConfig, Tensor


def round_off(requests):
    """Look at each request by itself: their parameters may differ."""
    answers = []
    for request in requests:
        digits = request.parameters["digits"]
        tenant = request.parameters.get("tenant-name", "nobody")
        told = np.full((len(request["numbers"]), 1), str(tenant).encode(), np.object_)
        answers.append({"rounded": np.round(request["numbers"], digits), "tenant": told})
    return answers


# Headers that match go to the function as parameters.
config = ServerConfig(http_header_forward_pattern="tenant-.*", grpc_header_forward_pattern="tenant-.*")

with Server(config) as server:
    server.bind(
        model_name="round_off",
        infer_func=round_off,
        inputs=[Tensor(np.float64, (-1,), "numbers")],
        outputs=[Tensor(np.float64, (-1,), "rounded"), Tensor(bytes, (1,), "tenant")],
        config=ModelConfig(max_batch_size=16),
        strict=True,
    )
    server.serve()
