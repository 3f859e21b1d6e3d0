"""The endpoint's side: connections to it, and the relay between it and the client."""
