"""How one works with the library: the command `rsrl`, widgets, pages, batches of notebooks."""
