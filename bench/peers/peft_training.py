"""QDoRA steps by PEFT over bitsandbytes on the CPU, one for each line on stdin.

usage: peft_training.py '{"model": FOLDER, "ids": [...], "rank": 16, "alpha": 32, "learning_rate": 1e-4, "threads": N, "checkpointing": true}'
Prints a line of JSON when ready and after each step; at the end of stdin the process's memory: what imports alone take, and the peak.
"""

import json
import sys
import time
from importlib.metadata import version

import bitsandbytes  # noqa: F401
import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

asked = json.loads(sys.argv[1])


def status(field):
    """Bytes of VmRSS or VmHWM; Linux only, as is this comparison."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def say(**what):
    print(json.dumps(what), flush=True)


torch.set_num_threads(asked["threads"])
torch.manual_seed(0)
runtime = status("VmRSS")
with open("/proc/self/clear_refs", "w") as clear:
    clear.write("5")

nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
base = AutoModelForCausalLM.from_pretrained(asked["model"], quantization_config=nf4, dtype=torch.float32)
base.config.use_cache = False
if asked["checkpointing"]:
    options = {"use_reentrant": False}
    base = prepare_model_for_kbit_training(base, True, options)
lora = LoraConfig(
    r=asked["rank"],
    lora_alpha=asked["alpha"],
    target_modules="all-linear",
    use_dora=True,
    task_type="CAUSAL_LM",
)
model = get_peft_model(base, lora)
model.train()
trained = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=asked["learning_rate"], weight_decay=0)
ids = torch.tensor([asked["ids"]])
names = ["torch", "transformers", "peft", "bitsandbytes"]
say(versions={name: version(name) for name in names}, trained=sum(p.numel() for p in trained))

for _ in sys.stdin:
    began = time.perf_counter()
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    say(loss=loss.item(), gradNorm=norm.item(), ms=(time.perf_counter() - began) * 1000)

say(runtimeBytes=runtime, peakBytes=status("VmHWM"))
