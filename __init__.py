"""deuteron: an inference server that speaks Triton's protocols, in which every model instance is an actor.

Four floors, and imports only lead downwards: `service` (sockets, signals, metrics, command line), `actors`
(mailboxes, schedules, supervision), `backends` (devices, engines, memory) and `proto` (the vocabulary and how it is
spelt on a wire).
"""

__version__ = "0.1.0"
