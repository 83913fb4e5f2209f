"""deuteron: an inference server that speaks Triton's protocols, in which every model instance is an actor.

Four floors, and imports only lead downwards: `service` (sockets, signals, command line), `actors` (mailboxes,
schedules, supervision), `backends` (devices, engines, memory), `proto` (the vocabulary and how it is spelt).
"""

__version__ = "0.1.0"
