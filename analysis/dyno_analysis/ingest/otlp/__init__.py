"""OTLP files become spans, and spans become rows. Pure."""
