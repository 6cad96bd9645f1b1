"""What the optimizers and the runner cost. Each module is a program: `python -m benchmarks.step`, `.epoch`."""
