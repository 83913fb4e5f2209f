"""What the server tells about itself and its models is the same through each of Triton's clients."""
