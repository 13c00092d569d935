#!/bin/sh
# Vectors; the model must be one that makes them.
curl -sS --fail-with-body "${CORTEX_URL:-http://127.0.0.1:31313}/v1/embeddings" \
  -H "Authorization: Bearer ${CORTEX_API_KEY:-none}" \
  -H "Content-Type: application/json" \
  -d '{"model": "'"${CORTEX_MODEL:-default}"'", "input": ["a river", "a mountain"], "encoding_format": "float"}'
