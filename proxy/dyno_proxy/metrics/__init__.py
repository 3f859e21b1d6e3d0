"""The proxy's figures, and Prometheus' text of them."""
