"""The order of things: mailboxes, schedules, supervision and life cycles; it knows neither network nor devices."""
