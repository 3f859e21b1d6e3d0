"""What each command takes and prints: `dyno report`, `sql`, `import`, `compact`, `trace`."""
