"""What several test files share: tiny runs, small models, files in the benchmarks' forms, stand-ins for the cloud."""
