"""What a step is made of: passes over a batch, and what keeps them right."""
