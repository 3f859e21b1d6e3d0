"""What each command takes and prints: `dyno compare`, `drive`, `simulate`."""
