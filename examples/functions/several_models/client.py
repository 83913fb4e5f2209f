"""Ask both models for the same entries."""

import sys

import numpy as np

from deuteron import ModelClient

url = sys.argv[1] if sys.argv[1:] else "localhost"
index = np.array([[0, 3, 9]])

with ModelClient(url, "look_up") as look_up, ModelClient(url, "scale") as scale:
    entries = look_up.infer_batch(index)["entry"]
    parts = scale.infer_batch(index)["entry"]

assert entries.tolist() == [[0, 9, 81]]
assert np.allclose(parts, entries / 81)
print("both models have the same table")
