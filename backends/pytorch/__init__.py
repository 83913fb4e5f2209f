"""PyTorch models: TorchScript (`model.pt`) and exported programs (`model.pt2`)."""
