"""A language model in a study file: which model, where it is served, how it is asked, and what it costs.

What changes an answer (model, revision, prompts, parameters) is part of a call's key; where the model is served, how
patiently it is asked and what it costs is not, so a server may move without a call being made again. Keys to hosted
servers come from the environment only: a study file names the variable, never the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, JsonValue, field_validator, model_validator

from antar.core.config import Config

TAKEN = frozenset(
    [
        "model",
        "messages",
        "temperature",
        "seed",
        "max_tokens",
        "response_format",
        "logprobs",
        "top_logprobs",
        "n",
        "stream",
    ]
)
"""Parameters that antar sets itself."""


class Prices(Config):
    """What a server charges, for a million tokens."""

    input: float = Field(ge=0)
    """Of what is read."""
    output: float = Field(ge=0)
    """Of what is written."""
    currency: str = Field(default="USD", min_length=1)
    """Of both."""


class Endpoint(Config):
    """One OpenAI-compatible server."""

    base_url: str
    """E.g. `http://127.0.0.1:8000/v1`."""
    key_env: str | None = Field(default=None, min_length=1)
    """The environment variable that holds the key. None: the server wants none."""
    concurrency: int | None = Field(default=None, ge=1)
    """The most calls in flight at once; None: the worker's."""

    @field_validator("base_url")
    @classmethod
    def _a_plain_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"expected an address such as http://127.0.0.1:8000/v1, found {value!r}")
        if parts.username or parts.password or parts.query:
            raise ValueError(
                "expected an address without a name, a password or a query: keys come from the environment (key_env)"
            )
        return value.rstrip("/")


def _endpoints(value: Any) -> Any:
    """One address, or a list of addresses and `{base_url: …}`."""
    several = value if isinstance(value, list | tuple) else [] if value is None else [value]
    return tuple({"base_url": one} if isinstance(one, str) else one for one in several)


class ModelWorker(Config):
    """How any language model is asked. Temperature 0 and a seed, so that the same question has the same answer where
    the server can promise that."""

    revision: str | None = None
    """The pinned revision of the weights, for the record and the calls' keys."""
    prompts: Literal["en", "hi"] = "en"
    """The language of the instructions and of the labels: English, or Hindi in Devanagari."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """Of sampling."""
    seed: int | None = Field(default=None, ge=0)
    """Sent to the server; None: the study's."""
    max_tokens: int = Field(default=400, ge=16)
    """The longest structured answer. One that is cut there is a failure."""
    extra_body: Mapping[str, JsonValue] = Field(default_factory=dict)
    """More fields of the request, e.g. `{chat_template_kwargs: {enable_thinking: false}}`; part of a call's key."""
    name_ids: bool = False
    """Whether the schema that is sent lists the ids that may be evidence. It keeps a small model from making ids up
    where the server enforces schemas; hosted services need seconds for every new schema."""
    concurrency: int = Field(default=32, ge=1)
    """The most calls in flight at one endpoint; fewer when it says 429 or becomes slow."""
    timeout_s: float = Field(default=120, gt=0)
    """A call that takes longer is tried again."""
    attempts: int = Field(default=5, ge=1)
    """A call that failed so often is recorded as failed."""
    patience_s: float = Field(default=300, ge=0)
    """When no endpoint has answered for so long, the run stops; calls that are done stay done."""
    prices: Prices | None = None
    """None: tokens are counted, and no money."""

    @field_validator("extra_body")
    @classmethod
    def _not_what_antar_sets(cls, value: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
        if taken := sorted(TAKEN & set(value)):
            raise ValueError(f"expected fields that antar does not set itself, found {', '.join(taken)}")
        return value


class LlmWorker(ModelWorker):
    """A language model behind OpenAI-compatible endpoints (vLLM, SGLang, llama.cpp, Ollama, hosted)."""

    kind: Literal["llm"] = "llm"
    model: str = Field(min_length=1)
    """The model's name at the endpoint, e.g. `Qwen/Qwen1.5-32B-Chat`."""
    base_url: Annotated[tuple[Endpoint, ...], BeforeValidator(_endpoints)] = ()
    """The endpoint or endpoints that serve it, e.g. `http://127.0.0.1:8000/v1`. null: the keyword worker stands in,
    and the run says so."""

    @model_validator(mode="after")
    def _each_once(self) -> LlmWorker:
        urls = [endpoint.base_url for endpoint in self.base_url]
        if len(set(urls)) < len(urls):
            raise ValueError("base_url: expected each endpoint once")
        return self


class LlamaCppWorker(ModelWorker):
    """A language model from a GGUF file, served by antar itself on the loopback (extra: `antar[llamacpp]`)."""

    kind: Literal["llamacpp"] = "llamacpp"
    gguf: str = Field(min_length=1)
    """The file, relative to the study file; `package:NAME/FILE` is one inside an installed package."""
    context: int = Field(default=4096, ge=512)
    """Tokens that one call may have, question and answer."""
    concurrency: int = Field(default=2, ge=1)
    """Calls that are computed side by side."""
    threads: int | None = Field(default=None, ge=1)
    """Processor threads; None: as many as there are."""
    gpu_layers: int = Field(default=-1, ge=-1)
    """Blocks that are put on a GPU where there is one; -1: all of them."""
    name_ids: bool = True
    """As for any model; on, because this server enforces schemas and small models make ids up."""

    @property
    def model(self) -> str:
        """The file's name without its ending: what records call the model."""
        return self.gguf.rsplit("/", 1)[-1].removesuffix(".gguf")
