/**
 * The tokens by which the owners of keys are told apart: random, new for every claim, and too long to be
 * met twice. Chance is drawn for many of them at once, as `randomUUID` does; that would put each text
 * together of twenty pieces, and a claim is on every request's way.
 */
import { randomBytes } from 'node:crypto';
import { uuidOfHex } from './uuid.js';

const TOKEN_BYTES = 16;

/** What is drawn at once: two kilobytes, which lie here until they are used up. */
const TOKENS = 128;

export class OwnerTokens {
  /** Bytes in hex, so two digits for each, and where the next token begins. */
  #drawn = '';
  #next = 0;

  next(): string {
    if (this.#next === this.#drawn.length) this.#draw();
    const token = uuidOfHex(this.#drawn, this.#next);
    this.#next += 2 * TOKEN_BYTES;
    return token;
  }

  #draw(): void {
    this.#drawn = randomBytes(TOKENS * TOKEN_BYTES).toString('hex');
    this.#next = 0;
  }
}
