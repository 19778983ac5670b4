"""Language models behind OpenAI-compatible servers: clients that lose no call, and what they are asked."""
