"""Every layout of a checkpoint, read as the native one, tensor by tensor."""
