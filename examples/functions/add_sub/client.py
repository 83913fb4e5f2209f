"""Ask for sums and differences: of a batch, of one sample, and of many samples at once."""

import sys

import numpy as np

from deuteron import FuturesModelClient, ModelClient

url = sys.argv[1] if sys.argv[1:] else "localhost"
a = np.array([[1, 2], [3, 4]], np.float32)
b = np.array([[10, 20], [30, 40]], np.float32)

with ModelClient(url, "add_sub") as client:
    answer = client.infer_batch(a, b)
    assert answer["sum"].tolist() == [[11, 22], [33, 44]]
    assert answer["difference"].tolist() == [[-9, -18], [-27, -36]]
    assert client.infer_sample([1], [2])["sum"].tolist() == [3]

with FuturesModelClient(url, "add_sub") as client:
    futures = [client.infer_sample([number], [1]) for number in range(50)]
    assert [future.result()["sum"].item() for future in futures] == list(range(1, 51))

print("sums and differences are right")
