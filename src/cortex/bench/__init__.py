"""A load generator for OpenAI-compatible servers.

workload.py (what is sent) and statistics.py (what was measured) are pure; client.py sends, report.py makes the table.
"""
