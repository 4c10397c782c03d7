"""A run's records: metrics, health checks, hours, versions."""
