"""The rules that a configuration must keep, one subject a file, each a function that yields complaints.

A function looks at its subject alone and yields every complaint it has, in the order in which Triton looks
for them, so that the first is the one that Triton would report. What only follows from an earlier complaint
is left out. Texts are Triton's (core, `model_config_utils.cc`).
"""
