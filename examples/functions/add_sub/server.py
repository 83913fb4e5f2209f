"""Add and subtract rows of two inputs."""

import numpy as np

from deuteron import ModelConfig, Server, Tensor, batch


@batch
def add_sub(**inputs):
    """Take the inputs in their order, whatever they are called."""
    a, b = inputs.values()
    return {"sum": a + b, "difference": a - b}


with Server() as server:
    server.bind(
        model_name="add_sub",
        infer_func=add_sub,
        inputs=[Tensor(np.float32, (-1,)), Tensor(np.float32, (-1,))],
        outputs=[Tensor(np.float32, (-1,), "sum"), Tensor(np.float32, (-1,), "difference")],
        config=ModelConfig(max_batch_size=128),
        strict=True,
    )
    server.serve()
