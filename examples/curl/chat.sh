#!/bin/sh
# A streamed chat. -N keeps curl from buffering the output.
curl -sSN --fail-with-body "${CORTEX_URL:-http://127.0.0.1:31313}/v1/chat/completions" \
  -H "Authorization: Bearer ${CORTEX_API_KEY:-none}" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "'"${CORTEX_MODEL:-default}"'",
    "messages": [{"role": "user", "content": "Name three rivers."}],
    "stream": true,
    "stream_options": {"include_usage": true}
  }'
