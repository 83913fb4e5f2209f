"""Send rows of numbers and blobs, and compare what comes back."""

import sys

import numpy as np

from deuteron import ModelClient

numbers = np.random.default_rng(7).random((4, 3))
blobs = np.array([[b"\x00\xff"], [b""], [b"text"], [b"\x00"]], np.object_)

with ModelClient(sys.argv[1] if sys.argv[1:] else "localhost", "identity") as client:
    answer = client.infer_batch(numbers=numbers, blobs=blobs)

assert (answer["same_numbers"] == numbers).all()
assert (answer["same_blobs"] == blobs).all()
print(f"{len(blobs)} rows came back as they went")
