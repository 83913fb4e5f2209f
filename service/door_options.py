"""The options of the two doors: where they listen, whom they let in, and what they bear."""

from typing import Final

from . import policy, values
from .option import Group, Option, inert

REPEATABLE: Final = "May be given several times."
_ADDRESS: Final = "Address to listen at; unix:/path is a socket in the file system, and has no port."
_GROUPS: Final = f"Groups: {', '.join(group.value for group in policy.Group)}."

HTTP: Final = Group(
    "HTTP",
    (
        Option("allow-http", values.BOOL, "Whether to listen for HTTP requests.", "http.enabled"),
        Option("http-address", values.TEXT, _ADDRESS, "http.address"),
        Option("http-port", values.PORT, "Port to listen at; 0 picks a free one.", "http.port"),
        Option(
            "reuse-http-port", values.BOOL, "Whether other servers may share the port.", "http.reuse_port"
        ),
        Option(
            "http-max-input-size",
            values.MAX_INPUT_SIZE,
            "Largest JSON, raw input or decompressed body of a request.",
            "http.max_input_size",
        ),
        Option(
            "http-header-forward-pattern",
            values.PATTERN,
            "Headers to hand to models as parameters: a regular expression, found anywhere in the name "
            "and in any case.",
            "http.forward_pattern",
        ),
        Option(
            "http-restricted-api",
            values.RESTRICTED_API,
            f"Groups of operations that only a header opens. {REPEATABLE} {_GROUPS}",
            repeatable=True,
        ),
        Option(
            "http-use-ssl",
            values.BOOL,
            "Whether to speak HTTPS; deuteron's own option, as the two below.",
            "http_tls.enabled",
        ),
        Option(
            "http-server-cert",
            values.PATH,
            "PEM file of the server's certificate.",
            "http_tls.certificate",
        ),
        Option("http-server-key", values.PATH, "PEM file of its key.", "http_tls.key"),
        Option(
            "http-engine",
            values.HTTP_ENGINE,
            "What answers inference: the lane, made for it, or aiohttp, which answers everything else.",
            "http.engine",
        ),
        inert("http-thread-count", values.INT, 8),
    ),
)

GRPC: Final = Group(
    "gRPC",
    (
        Option("allow-grpc", values.BOOL, "Whether to listen for gRPC requests.", "grpc.enabled"),
        Option("grpc-address", values.TEXT, _ADDRESS, "grpc.address"),
        Option("grpc-port", values.PORT, "Port to listen at; 0 picks a free one.", "grpc.port"),
        Option(
            "reuse-grpc-port", values.BOOL, "Whether other servers may share the port.", "grpc.reuse_port"
        ),
        Option(
            "grpc-engine",
            values.GRPC_ENGINE,
            "What carries calls: the lane, deuteron's own HTTP/2, or gRPC's library.",
            "grpc.engine",
        ),
        Option(
            "grpc-keepalive-time",
            values.MILLISECONDS,
            "Silence after which a connection is probed.",
            "keepalive.time_ms",
        ),
        Option(
            "grpc-keepalive-timeout",
            values.MILLISECONDS,
            "How long an answer to a probe may take.",
            "keepalive.timeout_ms",
        ),
        Option(
            "grpc-keepalive-permit-without-calls",
            values.BOOL,
            "Whether connections without calls are probed.",
            "keepalive.permit_without_calls",
        ),
        Option(
            "grpc-http2-max-pings-without-data",
            values.INT,
            "Probes to send without data between them; 0 is any number.",
            "keepalive.max_pings_without_data",
        ),
        Option(
            "grpc-http2-min-recv-ping-interval-without-data",
            values.MILLISECONDS,
            "Least time between probes of a client that sends no data.",
            "keepalive.min_ping_interval_without_data_ms",
        ),
        Option(
            "grpc-http2-max-ping-strikes",
            values.INT,
            "Early probes of a client that are forgiven; 0 forgives all.",
            "keepalive.max_ping_strikes",
        ),
        Option(
            "grpc-max-connection-age",
            values.MILLISECONDS,
            "Age at which a connection is closed; 0 is never.",
            "keepalive.max_connection_age_ms",
        ),
        Option(
            "grpc-max-connection-age-grace",
            values.MILLISECONDS,
            "How long calls of a connection past its age may take.",
            "keepalive.max_connection_age_grace_ms",
        ),
        Option(
            "grpc-header-forward-pattern",
            values.PATTERN,
            "Metadata to hand to models as parameters: a regular expression, as for HTTP.",
            "grpc.forward_pattern",
        ),
        Option(
            "grpc-restricted-protocol",
            values.RESTRICTED_PROTOCOL,
            "Groups of calls that only metadata opens, its key after triton-grpc-protocol-. "
            f"{REPEATABLE} {_GROUPS}",
            repeatable=True,
        ),
        Option("grpc-use-ssl", values.BOOL, "Whether to speak TLS.", "grpc_tls.enabled"),
        Option(
            "grpc-use-ssl-mutual",
            values.BOOL,
            "Whether to speak TLS, and with clients that --grpc-root-cert vouches for only.",
            "grpc_tls.mutual",
        ),
        Option(
            "grpc-server-cert",
            values.PATH,
            "PEM file of the server's certificate.",
            "grpc_tls.certificate",
        ),
        Option("grpc-server-key", values.PATH, "PEM file of its key.", "grpc_tls.key"),
        Option(
            "grpc-root-cert",
            values.PATH,
            "PEM file of the certificates that vouch for clients.",
            "grpc_tls.root",
        ),
        Option(
            "grpc-infer-response-compression-level",
            values.COMPRESSION,
            "How much responses to inference are compressed.",
            "grpc.compression",
        ),
        inert("grpc-infer-thread-count", values.GRPC_THREADS, 2),
        inert("grpc-infer-allocation-pool-size", values.INT, 8),
        inert("grpc-max-response-pool-size", values.RESPONSE_POOL, 2**31 - 1),
    ),
)
