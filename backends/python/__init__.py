"""Models that are Python code: a class `TritonPythonModel` in a `model.py`, as in Triton's python backend."""
