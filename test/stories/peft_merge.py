"""Compares a merged folder with real PEFT's merge_and_unload: python peft_merge.py BASE ADAPTER MERGED -> JSON on stdout.

{"weights": largest difference of a tensor, "logits": largest difference of logits, "tensors": number of them}
"""
import json
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

base_path, adapter, merged_path = sys.argv[1:]
base = AutoModelForCausalLM.from_pretrained(base_path, dtype=torch.float32)
want = PeftModel.from_pretrained(base, adapter).merge_and_unload().eval()
got = AutoModelForCausalLM.from_pretrained(merged_path, dtype=torch.float32).eval()
ours, theirs = got.state_dict(), want.state_dict()
assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
weights = max((ours[k] - theirs[k]).abs().max().item() for k in ours)
ids = torch.tensor([[(7 + 37 * i) % got.config.vocab_size for i in range(40)]])
with torch.no_grad():
    logits = (got(input_ids=ids).logits - want(input_ids=ids).logits).abs().max().item()
print(json.dumps({"weights": weights, "logits": logits, "tensors": len(ours)}))
