#!/bin/sh
# Anthropic's messages: count the tokens of a request, then send it.
ask() {
  curl -sS --fail-with-body "${CORTEX_URL:-http://127.0.0.1:31313}$1" \
    -H "x-api-key: ${CORTEX_API_KEY:-none}" \
    -H "anthropic-version: 2023-06-01" \
    -H "Content-Type: application/json" \
    -d '{
      "model": "'"${CORTEX_MODEL:-default}"'",
      "max_tokens": 200,
      "messages": [{"role": "user", "content": "Name three rivers."}]
    }'
  echo
}
ask /v1/messages/count_tokens && ask /v1/messages
