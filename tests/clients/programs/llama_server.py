"""A llama.cpp server: `llama_server.py MODEL.gguf PORT`. It exits when its stdin is closed."""

import os
import sys

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.model_alias = {"beside"}
params.hostnames = ["127.0.0.1"]
params.port = int(sys.argv[2])
params.n_ctx, params.n_parallel = 4096, 4
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.cache_ram_mib = 0
params.fit_params = False
params.ui = False
server = xllamacpp.Server(params)
sys.stdin.read()
os._exit(0)  # destroying a server that still generates would hang
