"""The engine that is grpcio: HTTP/2 and calls by gRPC's own library."""

import os

# grpcio reads this when it is first imported. Its newer listener hands every read to one more thread, and
# that costs a small request about a sixth of its time; an operator who sets the variable knows better.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")
