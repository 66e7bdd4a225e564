"""Photos drawn by a seeded generator, whose truth is known."""
