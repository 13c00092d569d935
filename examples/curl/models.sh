#!/bin/sh
# The models that are served, with limits, state and neuron.
curl -sS --fail-with-body "${CORTEX_URL:-http://127.0.0.1:31313}/v1/models" \
  -H "Authorization: Bearer ${CORTEX_API_KEY:-none}"
