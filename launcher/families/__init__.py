"""What is known of a model: facts, files, texts."""
