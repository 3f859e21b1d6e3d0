"""A statement becomes rows, safely."""
