/** Causal attention over one stream of packed sequences (flash attention, Dao 2023): no score matrix is ever stored. */
export { attentionForward, callAttentionForward } from "./attention_forward.js";
export {
  attentionBackwardKv,
  attentionBackwardQ,
  attentionDelta,
  callAttentionBackwardKv,
  callAttentionBackwardQ,
  callAttentionDelta,
} from "./attention_backward.js";
