"""What `dyno proxy` and `dyno collect` take and print."""
