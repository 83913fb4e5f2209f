"""Clients of one model, typed and small: for deuteron, and for any server that speaks its protocols."""
