"""The openai SDK: a streamed chat, tool calls, and a response that continues an earlier one."""

import json
import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("CORTEX_URL", "http://127.0.0.1:31313") + "/v1",
    api_key=os.environ.get("CORTEX_API_KEY", "none"),
)
model = os.environ.get("CORTEX_MODEL", "default")


def weather(city: str) -> str:
    return f"It rains in {city}."


def chat() -> None:
    """Print the text as it is streamed."""
    question = [{"role": "user", "content": "Name three rivers."}]
    with client.chat.completions.stream(model=model, messages=question) as stream:
        for event in stream:
            if event.type == "content.delta":
                print(event.delta, end="", flush=True)
    print()


def tool_loop() -> None:
    """Call the tool as often as the model asks for it, at most five times."""
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": parameters}}]
    messages = [{"role": "user", "content": "How is the weather in Oslo?"}]
    for _ in range(5):
        message = client.chat.completions.create(model=model, messages=messages, tools=tools).choices[0].message
        if not message.tool_calls:
            print(message.content)
            return
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls:
            result = weather(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


def conversation() -> None:
    """The server stores the first response, so the second request only needs its id."""
    first = client.responses.create(model=model, input="My name is Ada.")
    second = client.responses.create(model=model, input="What is my name?", previous_response_id=first.id)
    print(second.output_text)


if __name__ == "__main__":
    chat()
    tool_loop()
    conversation()
