#!/bin/sh
# Embeddings; the model must be an embedding model.
curl -sS --fail-with-body "${CORTEX_URL:-http://127.0.0.1:31313}/v1/embeddings" \
  -H "Authorization: Bearer ${CORTEX_API_KEY:-none}" \
  -H "Content-Type: application/json" \
  -d '{"model": "'"${CORTEX_MODEL:-default}"'", "input": ["a river", "a mountain"], "encoding_format": "float"}'
