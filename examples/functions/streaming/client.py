"""Print each word as it comes; answers are streamed over gRPC only."""

import sys

from deuteron import DecoupledModelClient

text = "one word after the other"

with DecoupledModelClient(sys.argv[1] if sys.argv[1:] else "grpc://localhost", "spell") as client:
    words = []
    for answer in client.infer_sample([text]):
        words.append(answer["word"].item().decode())
        print(words[-1], flush=True)

assert " ".join(words) == text
