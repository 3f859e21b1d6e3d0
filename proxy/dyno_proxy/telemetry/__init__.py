"""A finished exchange becomes span files, and a row of theirs a span again."""
