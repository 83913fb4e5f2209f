"""Model repositories that are not on this machine: object stores, and archives on web servers."""
