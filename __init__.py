"""deuteron: an inference server that speaks Triton's protocols, in which every model instance is an actor.

Four floors, and imports only lead downwards: `service` (sockets, signals, command line), `actors` (mailboxes,
schedules, supervision), `backends` (devices, engines, memory), `proto` (the vocabulary and how it is spelt).

What a program uses that has the server for a library is named here, and imported when it is first used: to
import `deuteron` costs nothing and does nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

# One block a module, and each name as its own: so a type checker takes it for public. isort would part them.
# isort: off
if TYPE_CHECKING:
    from .backends.callables.decorators import (
        ConstantPadder as ConstantPadder,
        batch as batch,
        fill_optionals as fill_optionals,
        first_value as first_value,
        group_by_keys as group_by_keys,
        group_by_shapes as group_by_shapes,
        group_by_values as group_by_values,
        pad_batch as pad_batch,
        sample as sample,
        triton_context as triton_context,
    )
    from .backends.callables.errors import (
        UnrecoverableError as UnrecoverableError,
    )
    from .backends.callables.json_values import (
        json_values as json_values,
    )
    from .backends.callables.request import (
        Request as Request,
    )
    from .backends.callables.specs import (
        DynamicBatcher as DynamicBatcher,
        ModelConfig as ModelConfig,
        ModelWarmup as ModelWarmup,
        QueuePolicy as QueuePolicy,
        Tensor as Tensor,
        WarmupInput as WarmupInput,
    )
    from .proto.config.model_config import (
        TimeoutAction as TimeoutAction,
    )
    from .proto.datatypes import (
        Datatype as Datatype,
    )
    from .proto.errors import (
        Fault as Fault,
        InferError as InferError,
    )
    from .proto.message import (
        Correlation as Correlation,
    )
    from .service.client.asyncio_client import (
        AsyncioDecoupledModelClient as AsyncioDecoupledModelClient,
        AsyncioModelClient as AsyncioModelClient,
    )
    from .service.client.blocking_client import (
        DecoupledModelClient as DecoupledModelClient,
        FuturesModelClient as FuturesModelClient,
        ModelClient as ModelClient,
    )
    from .service.client.errors import (
        BatchingNotSupportedError as BatchingNotSupportedError,
        ClientClosedError as ClientClosedError,
        ClientError as ClientError,
        ClientTimeoutError as ClientTimeoutError,
        ClientValueError as ClientValueError,
        InferenceServerError as InferenceServerError,
        InvalidUrlError as InvalidUrlError,
        ModelUnavailableError as ModelUnavailableError,
        QueueFullError as QueueFullError,
        ServerUnreachableError as ServerUnreachableError,
    )
    from .service.library.asking import (
        Answer as Answer,
        RequestOptions as RequestOptions,
    )
    from .service.library.async_server import (
        AsyncModel as AsyncModel,
        AsyncServer as AsyncServer,
    )
    from .service.library.config import (
        ServerConfig as ServerConfig,
    )
    from .service.library.server import (
        Model as Model,
        Server as Server,
    )

# isort: on

__version__ = "0.1.0"

_NAMES_OF: Final = {
    ".backends.callables.decorators": (
        "ConstantPadder",
        "batch",
        "fill_optionals",
        "first_value",
        "group_by_keys",
        "group_by_shapes",
        "group_by_values",
        "pad_batch",
        "sample",
        "triton_context",
    ),
    ".backends.callables.errors": ("UnrecoverableError",),
    ".backends.callables.json_values": ("json_values",),
    ".backends.callables.request": ("Request",),
    ".backends.callables.specs": (
        "DynamicBatcher",
        "ModelConfig",
        "ModelWarmup",
        "QueuePolicy",
        "Tensor",
        "WarmupInput",
    ),
    ".proto.config.model_config": ("TimeoutAction",),
    ".proto.datatypes": ("Datatype",),
    ".proto.errors": (
        "Fault",
        "InferError",
    ),
    ".proto.message": ("Correlation",),
    ".service.client.asyncio_client": (
        "AsyncioDecoupledModelClient",
        "AsyncioModelClient",
    ),
    ".service.client.blocking_client": (
        "DecoupledModelClient",
        "FuturesModelClient",
        "ModelClient",
    ),
    ".service.client.errors": (
        "BatchingNotSupportedError",
        "ClientClosedError",
        "ClientError",
        "ClientTimeoutError",
        "ClientValueError",
        "InferenceServerError",
        "InvalidUrlError",
        "ModelUnavailableError",
        "QueueFullError",
        "ServerUnreachableError",
    ),
    ".service.library.asking": (
        "Answer",
        "RequestOptions",
    ),
    ".service.library.async_server": (
        "AsyncModel",
        "AsyncServer",
    ),
    ".service.library.config": ("ServerConfig",),
    ".service.library.server": (
        "Model",
        "Server",
    ),
}
"""The module that each public name comes from; type checkers read the imports above."""

HOMES: Final = {name: module for module, names in _NAMES_OF.items() for name in names}
"""The other way round."""


if not TYPE_CHECKING:  # a type checker is to find names that are misspelt

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used; raises AttributeError for any other."""
        if name not in HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(HOMES[name], __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *HOMES})
