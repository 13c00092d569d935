"""The anthropic SDK: count the tokens of a request, then stream its answer."""

import os

from anthropic import Anthropic

client = Anthropic(
    base_url=os.environ.get("CORTEX_URL", "http://127.0.0.1:31313"),
    api_key=os.environ.get("CORTEX_API_KEY", "none"),
)
model = os.environ.get("CORTEX_MODEL", "default")
messages = [{"role": "user", "content": "Name three rivers."}]


def main() -> None:
    count = client.messages.count_tokens(model=model, messages=messages)
    print(f"{count.input_tokens} tokens in")
    with client.messages.stream(model=model, max_tokens=200, messages=messages) as stream:
        for text in stream.text_stream:
            print(text, end="", flush=True)
    print(f"\n{stream.get_final_message().usage.output_tokens} tokens out")


if __name__ == "__main__":
    main()
