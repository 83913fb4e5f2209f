"""What can go wrong between a client and its model; whoever catches `ClientError` catches all of it."""


class ClientError(Exception):
    """Anything a client raises."""


class ClientValueError(ClientError, ValueError):
    """Arguments that cannot be asked with."""


class InvalidUrlError(ClientValueError):
    """A URL that leads to no server."""


class ClientTimeoutError(ClientError, TimeoutError):
    """The server, the model or the answer was not there in time."""


class ClientClosedError(ClientError):
    """A client that was closed is asked."""


class ServerUnreachableError(ClientError):
    """Nobody answers, or not in a way that can be understood."""


class ModelUnavailableError(ClientError):
    """The server is there, and the model is not."""


class BatchingNotSupportedError(ClientError):
    """A batch for a model that takes none."""


class InferenceServerError(ClientError):
    """What the server or the model answered instead of a result."""


class QueueFullError(ClientError):
    """More requests wait than may."""
