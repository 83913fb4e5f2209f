"""Ask with weights and without."""

import sys

import numpy as np

from deuteron import ModelClient

a = np.array([[1.0], [1.0]], np.float32)
b = np.array([[3.0], [3.0]], np.float32)
weight = np.array([[0.25], [1.0]], np.float32)

with ModelClient(sys.argv[1] if sys.argv[1:] else "localhost", "mix") as client:
    assert client.infer_batch(a, b)["mixed"].tolist() == [[2], [2]]
    assert client.infer_batch(a, b, weight)["mixed"].tolist() == [[2.5], [1]]
    assert client.infer_sample(a=[1], b=[3], weight=[0])["mixed"].tolist() == [3]

print("weights were used where they came")
