"""Two models in one program; what they share is an ordinary variable."""

import numpy as np

from deuteron import ModelConfig, Server, Tensor, batch

table = np.arange(10, dtype=np.float32) ** 2


@batch
def look_up(index):
    """Return the entries of the table."""
    return [table[index]]


@batch
def scale(index):
    """Return the entries of the table, as parts of the largest."""
    return [table[index] / table.max()]


with Server() as server:
    for name, function in (("look_up", look_up), ("scale", scale)):
        server.bind(
            model_name=name,
            infer_func=function,
            inputs=[Tensor(np.int64, (-1,), "index")],
            outputs=[Tensor(np.float32, (-1,), "entry")],
            config=ModelConfig(max_batch_size=8),
            strict=True,
        )
    server.serve()
