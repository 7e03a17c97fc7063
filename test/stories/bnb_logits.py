"""Logits of the last token of each prompt, by transformers over a bitsandbytes folder, all in f32: python bnb_logits.py MODEL 'JSON list of id lists' -> JSON on stdout."""
import json
import sys

import torch
from transformers import AutoModelForCausalLM

folder, prompts = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, device_map="cpu").eval()
linears = [type(m).__name__ for n, m in model.named_modules() if n.endswith("_proj")]
assert linears and set(linears) == {"Linear4bit"}, linears
# transformers keeps the stored bf16 of such a folder whatever is asked for, and bitsandbytes has a bf16 kernel for some processors:
# here everything is f32, as in qdora.
for p in model.parameters():
    if p.is_floating_point() and type(p).__name__ != "Params4bit":
        p.data = p.data.float()
for m in model.modules():
    if type(m).__name__ == "Linear4bit":
        m.support_avx512bf16_for_cpu = False
        m.weight.quant_state.dtype = torch.float32
with torch.no_grad():
    print(json.dumps([model(input_ids=torch.tensor([ids])).logits[0, -1].tolist() for ids in json.loads(prompts)]))
