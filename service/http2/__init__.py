"""A server's half of HTTP/2 (RFC 9113), made for gRPC and free of sockets: bytes in, bytes out.

`Connection` reads what a client sends and tells it to exchanges, one for each stream; `Outbox` keeps what is
to be sent until windows and transport take it. Neither knows a socket, a loop or gRPC.
"""
