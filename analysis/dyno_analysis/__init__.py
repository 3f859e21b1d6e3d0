"""SQL, statistics and reports over stored spans."""
