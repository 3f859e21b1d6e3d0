"""When a request may leave: limits of the run, limits of an endpoint, and pauses where one asks for them or is down."""
