"""Many runs: arms, folds and seeds in one table, and what can be concluded from it."""
