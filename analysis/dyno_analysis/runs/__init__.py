"""The folder `runs/` beside the spans: what the driver wrote about each run."""
