#!/bin/sh
# Ask what is in an image: the file given as argument (PNG, JPEG, GIF or BMP), or a red square. The model must take images.
picture=$(if [ -n "$1" ]; then base64 <"$1" | tr -d '\n'; else echo iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAAKElEQVR4nO3NsQ0AAAzCMP5/un0CNkuZ41wybXsHAAAAAAAAAAAAxR4yw/wuPL6QkAAAAABJRU5ErkJggg==; fi)
curl -sS --fail-with-body "${CORTEX_URL:-http://127.0.0.1:31313}/v1/chat/completions" \
  -H "Authorization: Bearer ${CORTEX_API_KEY:-none}" \
  -H "Content-Type: application/json" \
  -d @- <<BODY
{
  "model": "${CORTEX_MODEL:-default}",
  "messages": [{"role": "user", "content": [
    {"type": "text", "text": "What is in this picture?"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,$picture"}}
  ]}]
}
BODY
