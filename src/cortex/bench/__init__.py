"""A load generator for any OpenAI-compatible URL: pure workloads and figures, one client, one table."""
