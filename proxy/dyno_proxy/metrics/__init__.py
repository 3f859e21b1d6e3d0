"""The proxy's figures, and the text that Prometheus reads them from."""
