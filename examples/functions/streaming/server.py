"""Spell a text word by word: a request has as many answers as its text has words."""

import numpy as np

from deuteron import ModelConfig, Server, Tensor


def spell(requests):
    """Yield what there is to say to each of the requests, None where that is nothing any more."""
    texts = [request["text"].item().decode().split() for request in requests]
    for number in range(max(map(len, texts))):
        yield [
            {"word": np.array([words[number].encode()], np.object_)} if number < len(words) else None
            for words in texts
        ]


with Server() as server:
    server.bind(
        model_name="spell",
        infer_func=spell,
        inputs=[Tensor(bytes, (1,), "text")],
        outputs=[Tensor(bytes, (1,), "word")],
        config=ModelConfig(batching=False, decoupled=True),
    )
    server.serve()
