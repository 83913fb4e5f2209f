"""A layer of PyTorch, in two instances: each is an object of its own, on a thread of its own."""

import numpy as np
import torch

from deuteron import DynamicBatcher, ModelConfig, Server, Tensor, batch

torch.manual_seed(7)
LAYER = torch.nn.Linear(20, 30).eval()


class Linear:
    """One instance of the model."""

    def __init__(self, layer):
        self._layer = layer

    @batch
    def __call__(self, vectors):
        """Apply the layer to a batch of vectors."""
        with torch.inference_mode():
            return [self._layer(torch.from_numpy(vectors)).numpy()]


with Server() as server:
    server.bind(
        model_name="linear",
        infer_func=[Linear(LAYER), Linear(LAYER)],
        inputs=[Tensor(np.float32, (20,), "vectors")],
        outputs=[Tensor(np.float32, (30,), "images")],
        config=ModelConfig(max_batch_size=128, batcher=DynamicBatcher(max_queue_delay_microseconds=500)),
        strict=True,
    )
    server.serve()
