"""The gRPC door: `inference.GRPCInferenceService`, and the standard health check."""
