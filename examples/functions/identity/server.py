"""Answer with what came: numbers, and bytes that no text could hold."""

import numpy as np

from deuteron import ModelConfig, Server, Tensor, batch


@batch
def identity(numbers, blobs):
    """Give back both inputs."""
    return {"same_numbers": numbers, "same_blobs": blobs}


with Server() as server:
    server.bind(
        model_name="identity",
        infer_func=identity,
        inputs=[Tensor(np.float64, (-1,), "numbers"), Tensor(object, (1,), "blobs")],
        outputs=[Tensor(np.float64, (-1,), "same_numbers"), Tensor(object, (1,), "same_blobs")],
        config=ModelConfig(max_batch_size=32),
        strict=True,
    )
    server.serve()
