"""Logits of the last token of each prompt, by real PEFT: python peft_logits.py MODEL ADAPTER 'JSON list of id lists' -> JSON on stdout."""
import json
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

model, adapter, prompts = sys.argv[1:]
base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
tuned = PeftModel.from_pretrained(base, adapter).eval()
with torch.no_grad():
    print(json.dumps([tuned(input_ids=torch.tensor([ids])).logits[0, -1].tolist() for ids in json.loads(prompts)]))
