"""An exchange: one inference request of the lane, from its body to the response that is ready to be sent."""

from collections.abc import Callable

from ...actors.clock import now
from ...actors.reply import SoleReply
from ...actors.servable import Askable, Servable
from ...proto import kserve_http
from ...proto.message import Request, Response
from ...proto.output_forms import OutputForms
from ..observer import Observation
from ..shared_memory import Loan
from .failures import response_to
from .heads import Head
from .inference import Inference, answered
from .responses import ReadyResponse

Answer = Callable[[ReadyResponse], None]


class Exchange(SoleReply):
    """Asks a model, and answers exactly once unless it is abandoned."""

    __slots__ = ("_answer", "_asked", "_forms", "_inference", "_loan", "_model", "_observation")

    _model: Servable
    _forms: OutputForms

    def __init__(self, inference: Inference, answer: Answer) -> None:
        super().__init__()
        self._inference = inference
        self._answer = answer
        self._asked: Request | None = None
        self._loan: Loan | None = None
        self._observation: Observation | None = None

    def ask(self, head: Head, body: bytes) -> None:
        """Ask; whatever keeps the request from being served is answered at once."""
        inference = self._inference
        received = now() if inference.observer.active else None
        try:
            assert head.infer is not None
            self._model = model = inference.find(head.infer)
            self._loan = inference.lend()
            asked, self._forms = inference.read(model, body, head.json_length, head.headers, self._loan)
            self._asked = asked
            if received is not None:
                self._observation = inference.observe(received, asked, model, head.headers)
            askable: Askable = model if self._observation is None else self._observation
            askable.infer(asked, self)
        except Exception as error:  # noqa: BLE001 - an error ends its own request and nothing else
            self.ended = True
            self._fail(error, head.infer.model if head.infer is not None else "")

    def tell(self, response: Response) -> None:
        """Answer with what the model said."""
        assert self._asked is not None
        try:
            ready = answered(kserve_http.encode_infer(self._model, self._asked, response, self._forms))
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(error, self._model.name)
        else:
            self._finish(ready)

    def abandon(self) -> None:
        """Hear that the client has gone."""
        if self.ended:
            return
        self.ended = True
        if self._asked is not None:
            self._model.cancel(self._asked)
        if self._loan is not None:
            self._loan.give_back()
        if self._observation is not None:
            self._observation.close()

    def _fail(self, error: Exception, model: str) -> None:
        """Answer with an error; the path is only for the log."""
        self._finish(response_to(error, f"/v2/models/{model}/infer"), error)

    def _finish(self, ready: ReadyResponse, error: Exception | None = None) -> None:
        if self._loan is not None:
            self._loan.give_back()
        observation = self._observation
        if observation is None:
            self._answer(ready)
        elif error is not None:
            observation.close(error)
            self._answer(ready)
        else:
            began = now()
            self._answer(ready)
            observation.sent(began)
            observation.close()
