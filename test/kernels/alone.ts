/**
 * Kernels that no program of a golden model has. Parts of a table follow one another only where one binding cannot hold it;
 * quantisation runs when a model is loaded. Their own tests run all their variants.
 */
export const ALONE: readonly string[] = [
  "embedding_gather_add",
  "nf4_quantize",
  "dense_product_backward_add",
  "int8_product_backward_add",
];
