"""The command-line options that the driver's commands share, and what they mean."""
