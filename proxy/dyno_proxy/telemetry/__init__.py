"""A finished exchange becomes span files and OTLP."""
