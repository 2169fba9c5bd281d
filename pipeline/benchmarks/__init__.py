"""How fast this is, beside the reference implementations where they are installed."""
