"""Files as they come: pictures, tables and texts, each read as its viewer would show it."""
