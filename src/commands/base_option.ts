/** `--base` of merge and export. */
import { Option } from "commander";

export function baseOption(): Option {
  return new Option(
    "--base <values>",
    "base values that the adapter is added to. An adapter corrects the weights that it was trained on: after training over NF4 these are the quantised ones (nf4), not the original ones (stored). Default: what the adapter's qdora_config.yaml says, else stored",
  ).choices(["nf4", "stored"]);
}
