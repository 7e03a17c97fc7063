// Part of product_matrix.wgsl: the products of `terms` terms of what is staged, DEPTH at most.
    for (var round = (terms + DEPTH - 1u) / DEPTH; round > 0u; round--) {
#let STEPS = CHAIN
#for c in 0..(SLICES - PEELED) / CHAIN
      {
#let FIRST = c * CHAIN
#include "product_matrix_step.wgsl"
      }
#endfor
    }
#let STEPS = 1
#for c in 0..PEELED
    {
#let FIRST = SLICES - PEELED + c
#include "product_matrix_step.wgsl"
    }
#endfor
