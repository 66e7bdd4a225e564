"""What a run, a sweep or two runs say, on one page that opens without a network."""
