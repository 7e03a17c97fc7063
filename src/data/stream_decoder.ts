/** Decodes a growing list of tokens into text, a piece at a time, without ever cutting a character in two. */

/** What an incomplete UTF-8 sequence decodes to. */
const REPLACEMENT = "\uFFFD";

/**
 * A token's text can depend on the ones before it (leading spaces, bytes of one character), so each piece is the
 * difference of two decodings that begin at the same token.
 */
export class StreamDecoder {
  readonly #decode: (ids: readonly number[]) => string;
  /** Tokens of the last piece, then those not emitted yet. */
  #ids: number[] = [];
  #emitted = 0;

  /** @param decode the text of a list of ids */
  constructor(decode: (ids: readonly number[]) => string) {
    this.#decode = decode;
  }

  /** Takes one token. @returns the text that became certain, often "" */
  push(id: number): string {
    this.#ids.push(id);
    return this.#piece(false);
  }

  /** @returns what is left; broken bytes at the end come out as U+FFFD */
  end(): string {
    return this.#piece(true);
  }

  #piece(isLast: boolean): string {
    const before = this.#decode(this.#ids.slice(0, this.#emitted));
    const now = this.#decode(this.#ids);
    if (!isLast && (now.length <= before.length || now.endsWith(REPLACEMENT))) return "";
    this.#ids = this.#ids.slice(this.#emitted);
    this.#emitted = this.#ids.length;
    return now.slice(before.length);
  }
}
