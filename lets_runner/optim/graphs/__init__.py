"""Ways to take a step: eagerly, or as one CUDA graph."""
