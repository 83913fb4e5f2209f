"""Weigh two inputs: weights may be left out, and rows of one batch may have different ones."""

import numpy as np

from deuteron import ModelConfig, Server, Tensor, batch, fill_optionals, first_value, group_by_values


@fill_optionals(weight=np.array([0.5], np.float32))
@batch
@group_by_values("weight")
@first_value("weight")
def mix(a, b, weight):
    """Be called once for each weight, which is a scalar."""
    return {"mixed": a * weight + b * (1 - weight)}


with Server() as server:
    server.bind(
        model_name="mix",
        infer_func=mix,
        inputs=[
            Tensor(np.float32, (-1,), "a"),
            Tensor(np.float32, (-1,), "b"),
            Tensor(np.float32, (1,), "weight", optional=True),
        ],
        outputs=[Tensor(np.float32, (-1,), "mixed")],
        config=ModelConfig(max_batch_size=64),
        strict=True,
    )
    server.serve()
