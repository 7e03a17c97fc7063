/** Seeded random numbers: xoshiro128** (Blackman and Vigna 2018), seeded by splitmix32. The same seed gives the same bytes anywhere. */

const rotate = (x: number, k: number): number => (x << k) | (x >>> (32 - k));

export class RandomSource {
  readonly #state = new Uint32Array(4);

  /** @param stream tells apart the sources of one seed: row order, adapter start, sampling */
  constructor(seed: number, stream: number) {
    let mix =
      (Math.imul(seed >>> 0, 0x9e3779b1) ^
        Math.imul(Math.floor(seed / 2 ** 32) >>> 0, 0x85ebca77) ^
        Math.imul(stream, 0xc2b2ae3d)) >>>
      0;
    for (let i = 0; i < 4; i++) {
      mix = (mix + 0x9e3779b9) >>> 0;
      let z = mix;
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      this.#state[i] = z ^ (z >>> 15);
    }
  }

  /** 32 random bits. */
  nextU32(): number {
    const s = this.#state;
    const result = Math.imul(rotate(Math.imul(s[1]!, 5), 7), 9) >>> 0;
    const t = s[1]! << 9;
    s[2] = s[2]! ^ s[0]!;
    s[3] = s[3]! ^ s[1]!;
    s[1] = s[1]! ^ s[2];
    s[0] = s[0]! ^ s[3];
    s[2] = s[2] ^ t;
    s[3] = rotate(s[3], 11);
    return result;
  }

  /** Uniform in [0, 1) with 24 bits: exact in f32. */
  nextUniform(): number {
    return (this.nextU32() >>> 8) / 0x1000000;
  }

  /** Uniform in 0..n-1, without bias. */
  nextBelow(n: number): number {
    const limit = 2 ** 32 - (2 ** 32 % n);
    let value = this.nextU32();
    while (value >= limit) value = this.nextU32();
    return value % n;
  }
}
