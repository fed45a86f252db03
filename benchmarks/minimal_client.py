"""What a person would write to stream a reply, or several: the yardstick for `nanobot agent -m`."""

import asyncio
import json
import sys

import httpx2


async def main(base_url: str, message: str, count: int) -> None:
    request = {"model": "bench", "stream": True, "messages": [{"role": "user", "content": message}]}
    async with httpx2.AsyncClient() as client:
        for _ in range(count):
            async with client.stream("POST", f"{base_url}/chat/completions", json=request) as response:
                response.raise_for_status()
                async for line in response.aiter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        for choice in json.loads(line[6:])["choices"]:
                            print(choice["delta"].get("content", ""), end="", flush=True)
            print()


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 1))
