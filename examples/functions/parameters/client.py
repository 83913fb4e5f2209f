"""Ask for two ways of rounding."""

import sys

import numpy as np

from deuteron import ModelClient

numbers = np.array([[1.25, 2.345]])

with ModelClient(sys.argv[1] if sys.argv[1:] else "localhost", "round_off") as client:
    coarse = client.infer_batch(numbers, parameters={"digits": 0})
    fine = client.infer_batch(numbers, parameters={"digits": 1}, headers={"tenant-name": "analytics"})

assert coarse["rounded"].tolist() == [[1, 2]]
assert coarse["tenant"].tolist() == [[b"nobody"]]
assert fine["rounded"].tolist() == [[1.2, 2.3]]
assert fine["tenant"].tolist() == [[b"analytics"]]
print("each request was rounded as it wished")
