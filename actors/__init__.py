"""The order of things: mailboxes, schedules, supervision, life cycles; it knows neither network nor CUDA."""
