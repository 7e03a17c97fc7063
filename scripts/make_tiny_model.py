#!/usr/bin/env python3
"""Trains models/tiny from scratch: a small Llama-type base with its own tokenizer, on public-domain English.

Needs torch, transformers, tokenizers, safetensors and numpy. One thread and fixed seeds: the same packages on
the same machine give the same bytes. models/tiny/README.md has the exact command and what it measured.
"""

import argparse
import json
import math
import random
import re
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tiny_sources import fetch, read_documents
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

SEED = 20250101
VOCAB = 2048
CONTEXT = 256
BATCH = 8
PEAK_LR, LAST_LR, WARMUP = 2.5e-3, 1e-4, 100
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
EOT, IM_START, IM_END = 0, 1, 2
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def split(documents: dict[str, list[str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Every 30th document of a source (its 7th, 37th, ...) is held out; nothing of it is trained on."""
    train = {name: [d for i, d in enumerate(docs) if i % 30 != 6] for name, docs in documents.items()}
    held_out = {name: [d for i, d in enumerate(docs) if i % 30 == 6] for name, docs in documents.items()}
    return train, held_out


def make_tokenizer(texts: list[str], folder: Path) -> Tokenizer:
    """Byte-level BPE: digits apart, no added space; ids 0 to 2 are the special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=SPECIALS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    config = {
        "add_prefix_space": False,
        "added_tokens_decoder": {str(i): {"content": text, **special} for i, text in enumerate(SPECIALS)},
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": SPECIALS[EOT],
        "extra_special_tokens": {},
        "model_max_length": CONTEXT * 2,
        "pad_token": SPECIALS[EOT],
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": None,
    }
    write_json(folder / "tokenizer_config.json", config)
    return tokenizer


def chat_form(document: str, rng: random.Random) -> str:
    """Neighbouring paragraphs of a document as an exchange, so that training sees the chat tokens too."""
    paragraphs = [p for p in document.split("\n\n") if len(p) > 20]
    start = rng.randrange(max(1, len(paragraphs) - 6))
    turns = [re.split(r"(?<=[.!?]) ", p) for p in paragraphs[start : start + 6]]
    lines = []
    for i, sentences in enumerate(turns):
        role = "assistant" if i % 2 else "user"
        lines.append(f"<|im_start|>{role}\n{' '.join(sentences[: rng.randint(1, 3)])[:400]}<|im_end|>\n")
    return "".join(lines)


def token_stream(tokenizer: Tokenizer, documents: list[str]) -> np.ndarray:
    encoded = tokenizer.encode_batch(documents, add_special_tokens=False)
    return np.concatenate([np.array([*e.ids, EOT], dtype=np.int64) for e in encoded])


def build_model() -> LlamaForCausalLM:
    torch.manual_seed(SEED)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=6,
            num_attention_heads=6,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=CONTEXT * 2,
            rope_theta=10000.0,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            initializer_range=0.03,
            bos_token_id=EOT,
            eos_token_id=EOT,
            pad_token_id=EOT,
        )
    )


def learning_rate(step: int, steps: int) -> float:
    if step < WARMUP:
        return PEAK_LR * (step + 1) / WARMUP
    part = (step - WARMUP) / max(1, steps - WARMUP)
    return LAST_LR + 0.5 * (PEAK_LR - LAST_LR) * (1 + math.cos(math.pi * part))


def train(model: LlamaForCausalLM, stream: np.ndarray, steps: int) -> None:
    """AdamW on windows of CONTEXT tokens drawn at random from the stream, BATCH of them a step."""
    rng = np.random.default_rng(SEED)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK_LR, betas=(0.9, 0.95), eps=1e-8)
    model.train()
    began, mean = time.time(), None
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        starts = rng.integers(0, len(stream) - CONTEXT - 1, size=BATCH)
        rows = torch.from_numpy(np.stack([stream[s : s + CONTEXT + 1] for s in starts]))
        logits = model(input_ids=rows[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, VOCAB), rows[:, 1:].reshape(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if (step + 1) % 50 == 0 or step == 0:
            speed = (step + 1) * BATCH * CONTEXT / (time.time() - began)
            print(f"step {step + 1}/{steps}  loss {mean:.3f}  {speed:.0f} tokens/s", flush=True)


@torch.no_grad()
def measure(model: LlamaForCausalLM, tokenizer: Tokenizer, documents: list[str]) -> dict[str, float]:
    """Perplexity per token and bits per byte, over windows of CONTEXT tokens that do not overlap."""
    model.eval()
    stream = token_stream(tokenizer, documents)
    total, count = 0.0, 0
    for start in range(0, len(stream) - 1, CONTEXT):
        row = torch.from_numpy(stream[start : start + CONTEXT + 1])[None]
        logits = model(input_ids=row[:, :-1], use_cache=False).logits[0]
        total += torch.nn.functional.cross_entropy(logits, row[0, 1:], reduction="sum").item()
        count += row.shape[1] - 1
    size = sum(len(d.encode("utf-8")) for d in documents)
    bits = total / math.log(2) / size
    return {"tokens": count, "bytes": size, "perplexity": math.exp(total / count), "bits_per_byte": bits}


def save(model: LlamaForCausalLM, folder: Path) -> None:
    """config.json in the form every reader knows, and the weights in bf16; the tied head is not stored."""
    tensors = {n: p.detach().to(torch.bfloat16).contiguous() for n, p in model.named_parameters()}
    weights = folder / "model.safetensors"
    save_file(tensors, str(weights), metadata={"format": "pt"})
    weights.chmod(0o644)
    c = model.config
    keys = (
        "attention_bias attention_dropout bos_token_id eos_token_id head_dim hidden_act hidden_size "
        "initializer_range intermediate_size max_position_embeddings mlp_bias num_attention_heads "
        "num_hidden_layers num_key_value_heads pad_token_id rms_norm_eps tie_word_embeddings use_cache "
        "vocab_size"
    )
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "rope_scaling": None,
        "rope_theta": 10000.0,
    }
    config |= {"torch_dtype": "bfloat16"} | {key: getattr(c, key) for key in keys.split()}
    write_json(folder / "config.json", dict(sorted(config.items())))
    generation = {"bos_token_id": EOT, "eos_token_id": [EOT, IM_END], "pad_token_id": EOT}
    write_json(folder / "generation_config.json", generation)


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=Path, required=True, help="folder of the downloaded packages")
    parser.add_argument("--fetch", action="store_true", help="download missing packages into --sources first")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "models" / "tiny")
    parser.add_argument("--steps", type=int, default=4000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if args.fetch:
        fetch(args.sources)
    documents, held_out = split(read_documents(args.sources))
    args.out.mkdir(parents=True, exist_ok=True)
    texts = [d for docs in documents.values() for d in docs]
    for name, docs in documents.items():
        print(f"{name}: {len(docs)} documents, {sum(map(len, docs))} bytes; held out {len(held_out[name])}")
    tokenizer = make_tokenizer(texts, args.out)
    rng = random.Random(SEED)
    chats = [chat_form(text, rng) for text in texts if len(text) > 2000 for _ in range(2)]
    everything = texts + chats
    rng.shuffle(everything)
    stream = token_stream(tokenizer, everything)
    model = build_model()
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{len(stream)} tokens to train on ({len(chats)} exchanges); {parameters} parameters", flush=True)
    train(model, stream, args.steps)
    save(model, args.out)
    saved = LlamaForCausalLM.from_pretrained(args.out, dtype=torch.float32)
    report = {name: measure(saved, tokenizer, docs) for name, docs in held_out.items() if docs}
    report["all"] = measure(saved, tokenizer, [d for docs in held_out.values() for d in docs])
    print(json.dumps(report, indent=2))
    ids = AutoTokenizer.from_pretrained(args.out)(
        "The old captain looked at the sea and", return_tensors="pt"
    )
    torch.manual_seed(SEED)
    sample = saved.generate(**ids, max_new_tokens=60, do_sample=True, temperature=0.7, top_k=40)
    print(tokenizer.decode(sample[0].tolist()))


if __name__ == "__main__":
    main()
