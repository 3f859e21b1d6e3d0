"""Prompt sets: from the package, from files, from the Hugging Face hub."""
