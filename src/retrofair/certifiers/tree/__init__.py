"""Branch and bound over pairs of people: nodes, their bounds, and how they are split."""
