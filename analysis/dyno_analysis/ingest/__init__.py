"""Results and spans of other tools become rows of our span files."""
