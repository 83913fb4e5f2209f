"""The server's side of worker processes: how they are started, watched and asked."""
