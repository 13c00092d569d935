#!/bin/sh
# What is served, with its limits, its state, and where it runs.
curl -sS --fail-with-body "${CORTEX_URL:-http://127.0.0.1:31313}/v1/models" \
  -H "Authorization: Bearer ${CORTEX_API_KEY:-none}"
