"""What model code imports as `triton_python_backend_utils`; it does not know in which process it runs."""
