"""The engine that is our own: gRPC on `service.http2` and an asyncio protocol, made for many small calls."""
