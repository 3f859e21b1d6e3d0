"""The OTLP receiver: others' spans become collected span files."""
