"""NVIDIA Dynamo with simulated engines: a frontend with its router, and workers that simulate computation."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import httpx

from benchmarks.ports import free_port
from tests.deploy import tools

READY_S = 120.0
MODEL = "simulated"
WORDS = 40_000
"""Tokens that are whole words. The workers answer with them."""

_MAKE_MODEL = '''
import json, sys
from pathlib import Path
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
folder = Path(sys.argv[1])
vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
end = vocabulary["<end>"] = len(vocabulary)
for number in range(int(sys.argv[2])):
    vocabulary[f"\\u0120w{number}"] = len(vocabulary)
tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.add_special_tokens(["<end>"])
tokenizer.save(str(folder / "tokenizer.json"))
template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\\n{% endfor %}assistant:"
settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<end>", "chat_template": template}
(folder / "tokenizer_config.json").write_text(json.dumps(settings))
sizes = {"vocab_size": len(vocabulary), "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
         "intermediate_size": 128, "max_position_embeddings": 131072, "eos_token_id": end, "bos_token_id": end, "torch_dtype": "float32"}
(folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama", **sizes}))
(folder / "generation_config.json").write_text(json.dumps({"eos_token_id": end}))
'''


def make_model(folder: Path) -> Path:
    """Write a model without weights: a tokenizer of bytes and words, and its settings. Return its folder."""
    model = folder / MODEL
    model.mkdir()
    done = subprocess.run([tools.engine("python"), "-c", _MAKE_MODEL, str(model), str(WORDS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return model


class Dynamo:
    """A frontend on loopback with a number of workers. Each instance is a deployment of its own."""

    def __init__(self, folder: Path, model: Path, *, workers: int, router: str = "kv", options: tuple[str, ...] = ()) -> None:
        """Start the processes; `wait_ready` waits until they are ready. `options` are those of the workers."""
        folder.mkdir()
        self._folder = folder
        self._count = workers
        self.port = free_port()
        (folder / "discovery").mkdir()
        self._environment = {**os.environ, "DYN_FILE_KV": str(folder / "discovery"), "HF_HUB_OFFLINE": "1", "DYN_LOG": "warn"}
        planes = ("--discovery-backend", "file", "--request-plane", "tcp", "--event-plane", "zmq")
        listen = ("--http-host", "127.0.0.1", "--http-port", str(self.port), "--router-mode", router)
        engine = ("--model-path", str(model), "--model-name", MODEL, "--block-size", "16", *options)
        self.frontend = self._start("frontend", "dynamo.frontend", *listen, *planes)
        self.workers = [self._start(f"worker-{number}", "dynamo.mocker", *engine, *planes) for number in range(workers)]

    def _start(self, name: str, module: str, *options: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{name}.log").open("wb") as log:
            command = [tools.engine("python"), "-m", module, *options]
            return subprocess.Popen(command, env=self._environment, cwd=self._folder, stdout=log, stderr=log)

    @property
    def base_url(self) -> str:
        """Return the base URL for the configuration."""
        return f"http://127.0.0.1:{self.port}/v1"

    def wait_ready(self) -> None:
        """Wait until every worker is registered and the frontend answers a call."""
        deadline = time.monotonic() + READY_S
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        with httpx.Client(trust_env=False, timeout=30) as client:
            while True:
                ready = False
                try:
                    known = len(list((self._folder / "discovery" / "v1" / "instances").glob("*generate*")))
                    ready = known >= self._count and client.post(f"{self.base_url}/chat/completions", json=body).status_code == 200
                except (httpx.HTTPError, OSError):
                    pass
                if ready:
                    return
                assert self.frontend.poll() is None, self.log()
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.3)

    def log(self) -> str:
        """Return the end of each process's log."""
        return "\n".join(f"{path.name}:\n{path.read_text(errors='replace')[-2000:]}" for path in sorted(self._folder.glob("*.log")))

    def stop(self) -> None:
        """End all processes."""
        processes = [self.frontend, *self.workers]
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
        for process in processes:
            process.wait(30)
