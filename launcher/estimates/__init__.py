"""What a request would cost: time, bytes, memory."""
