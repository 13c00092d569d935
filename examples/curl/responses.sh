#!/bin/sh
# A streamed response.
curl -sSN --fail-with-body "${CORTEX_URL:-http://127.0.0.1:31313}/v1/responses" \
  -H "Authorization: Bearer ${CORTEX_API_KEY:-none}" \
  -H "Content-Type: application/json" \
  -d '{"model": "'"${CORTEX_MODEL:-default}"'", "input": "Name three rivers.", "stream": true}'
