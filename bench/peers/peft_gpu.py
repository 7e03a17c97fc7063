"""Steps of QLoRA and QDoRA by PEFT over bitsandbytes on an NVIDIA GPU, on a model of random weights.

usage: python bench/peers/peft_gpu.py --geometry llama-2-7b --tokens 1024 --checkpointing full
Prints a Markdown table, and for each setting DoRA's time and memory over LoRA's. A row's loss and gradient norm are the last step's.

Base: NF4 with double quantisation, computed in bf16. Adapters: rank 16, alpha 32, on every linear layer but the head.
The settings differ in the precision of all else:
  autocast  norms, embeddings, head and adapters in f32, steps under bf16 autocast: what HF's Trainer does with bf16=True
  bf16      all of these in bf16, no autocast: the fastest

Memory is in 1e9 bytes. "peak" is what the steps' tensors took at most; "card" is what was taken of the card after the last step,
so it counts CUDA itself, the allocator's reserve and every other process there: have the card to yourself.
"""

import argparse
import gc
import math
import statistics
import sys
import time

import bitsandbytes
import peft
import torch
import transformers
from bitsandbytes.nn import Linear4bit, Params4bit
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from peft.tuners.lora.bnb import Linear4bit as LoraLinear4bit
from transformers import LlamaConfig, LlamaForCausalLM

RANK = 16
ALPHA = 32
SEED = 1

# vocabulary, hidden size, layers, heads, heads of keys and values, feed forward, head tied to the embeddings, positions
GEOMETRIES = {
    "smollm2-135m": (49152, 576, 30, 9, 3, 1536, True, 8192),
    "llama-2-7b": (32000, 4096, 32, 32, 32, 11008, False, 4096),
    "llama-3.1-8b": (128256, 4096, 32, 32, 8, 14336, False, 131072),
    "tiny": (512, 128, 2, 4, 2, 256, True, 2048),  # for a try with --device cpu
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--geometry", choices=GEOMETRIES, required=True)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--checkpointing", choices=["full", "none"], default="full")
    parser.add_argument("--settings", nargs="+", choices=["autocast", "bf16"], default=["autocast", "bf16"])
    parser.add_argument("--methods", nargs="+", choices=["lora", "dora"], default=["lora", "dora"])
    parser.add_argument("--steps", type=int, default=5, help="timed steps")
    parser.add_argument("--warmup", type=int, default=2, help="steps before them")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    asked = parser.parse_args()
    if asked.tokens < 2 or asked.steps < 1 or asked.warmup < 0:
        parser.error("wanted: --tokens of 2 or more, --steps of 1 or more, --warmup of 0 or more")
    return asked


asked = arguments()
on_gpu = asked.device == "cuda"


def random_weight(*shape):
    return torch.randn(shape, dtype=torch.bfloat16, device=asked.device).mul_(0.02)


def replace(model, name, value):
    parent, _, key = name.rpartition(".")
    setattr(model.get_submodule(parent), key, value)


def quantised(linear):
    nf4 = {"compress_statistics": True, "quant_type": "nf4"}
    options = {"bias": False, "compute_dtype": torch.bfloat16, "device": "meta"}
    layer = Linear4bit(linear.in_features, linear.out_features, **options, **nf4)
    weight = random_weight(linear.out_features, linear.in_features)
    layer.weight = Params4bit(weight, requires_grad=False, module=layer, **nf4).to(asked.device)
    state = layer.weight.quant_state
    if state is None or state.quant_type != "nf4" or not state.nested or state.dtype != torch.bfloat16:
        raise RuntimeError("the base is not NF4 with double quantisation of bf16")
    return layer


def base_model():
    """Without storage at first, then filled one layer at a time, so that 7B never lies there in 16 bits."""
    vocabulary, hidden, layers, heads, kv_heads, feed_forward, tied, positions = GEOMETRIES[asked.geometry]
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=feed_forward,
        tie_word_embeddings=tied,
        max_position_embeddings=positions,
        rms_norm_eps=1e-5,
        use_cache=False,
        attn_implementation="sdpa",
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    torch.manual_seed(SEED)
    linears = 0
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            replace(model, name, quantised(module))
            linears += 1
    for name, parameter in list(model.named_parameters()):
        if parameter.is_meta:
            norm = torch.ones(parameter.shape, dtype=torch.bfloat16, device=asked.device)
            data = norm if parameter.dim() == 1 else random_weight(*parameter.shape)
            replace(model, name, torch.nn.Parameter(data, requires_grad=False))
    if tied:
        model.lm_head.weight = model.model.embed_tokens.weight
    # its buffers are computed, not loaded
    model.model.rotary_emb = type(model.model.rotary_emb)(config).to(asked.device)
    # set by from_pretrained() on a quantised model; peft picks its layers by it
    model.is_loaded_in_4bit = True
    return model, linears


def adapted_model(setting, method):
    model, linears = base_model()
    if setting == "autocast":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if asked.checkpointing == "full":
        model.gradient_checkpointing_enable({"use_reentrant": False})
    checkpointing = model.model.layers[0].gradient_checkpointing
    options = {"target_modules": "all-linear", "use_dora": method == "dora", "task_type": "CAUSAL_LM"}
    model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=ALPHA, **options))
    model.train()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if setting == "bf16":
        for p in trained.values():  # peft makes them in f32 over 4 bits
            p.data = p.data.to(torch.bfloat16)

    # peft quietly takes other layers where it doesn't see the quantisation
    adapted = sum(isinstance(module, LoraLinear4bit) for module in model.modules())
    magnitudes = sum("lora_magnitude_vector" in name for name in trained)
    if adapted != linears or magnitudes != (linears if method == "dora" else 0):
        raise RuntimeError(f"of {linears} layers in 4 bits {adapted} have adapters and {magnitudes} magnitudes")
    if len(trained) != 2 * linears + magnitudes:
        raise RuntimeError(f"more or less than the adapters of {linears} layers is trained: {len(trained)} tensors")
    if checkpointing != (asked.checkpointing == "full"):
        raise RuntimeError("gradient checkpointing is not as asked")
    return model, list(trained.values())


def free():
    gc.collect()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def synchronised_ms():
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() * 1000


def measure(setting, method):
    free()  # of the run before
    model, trained = adapted_model(setting, method)
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    generator = torch.Generator().manual_seed(SEED)
    shape = (asked.warmup + asked.steps, 1, asked.tokens)
    batches = torch.randint(0, model.config.vocab_size, shape, generator=generator).to(asked.device)
    free()  # of what building took, which is not to count in the peak
    times = []
    for ids in batches:
        began = synchronised_ms()
        with torch.autocast(asked.device, dtype=torch.bfloat16, enabled=setting == "autocast"):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(synchronised_ms() - began)
        loss, norm = loss.item(), norm.item()  # lets the step's graph go before the next
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise RuntimeError(f"not finite: loss {loss}, gradient norm {norm}")
    times = times[asked.warmup :]
    row = {"ms": statistics.median(times), "min": min(times), "max": max(times)}
    row |= {"loss": loss, "norm": norm, "peak": math.nan, "card": math.nan}
    if on_gpu:
        unused, total = torch.cuda.mem_get_info()
        row |= {"peak": torch.cuda.max_memory_allocated() / 1e9, "card": (total - unused) / 1e9}
    return row


transformers.utils.logging.set_verbosity_error()
device = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
versions = [f"{library.__name__} {library.__version__}" for library in (torch, transformers, peft, bitsandbytes)]
print(f"- {device}; {', '.join(versions)}, CUDA {torch.version.cuda}, Python {sys.version.split()[0]}")
print(f"- {asked.geometry}, 1 x {asked.tokens} tokens, rank {RANK}, checkpointing {asked.checkpointing}, AdamW")
print(f"- medians of {asked.steps} steps after {asked.warmup}\n")
print("| setting | method | ms | min | max | tok/s | loss | grad norm | peak GB | card GB |")
print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
ratios = []
for setting in asked.settings:
    rows = {}
    for method in asked.methods:
        row = rows[method] = measure(setting, method)
        cells = [f"{row[key]:.1f}" for key in ("ms", "min", "max")] + [f"{asked.tokens / row['ms'] * 1000:.0f}"]
        cells += [f"{row['loss']:.4f}", f"{row['norm']:.4f}"]
        cells += [f"{row[key]:.2f}" if on_gpu else "-" for key in ("peak", "card")]
        print(f"| {setting} | {method} | {' | '.join(cells)} |", flush=True)
    if len(rows) == 2:
        time_ratio, peak_ratio = (rows["dora"][key] / rows["lora"][key] for key in ("ms", "peak"))
        memory = f", {peak_ratio:.3f}x its peak" if on_gpu else ""
        ratios.append(f"- {setting}: DoRA takes {time_ratio:.3f}x the time of LoRA{memory}")
print("", *ratios, sep="\n")
