/** What a contestant has been seen to answer: how many orders there must be, and what later answers must be equal to. */
import type { Answer } from './answer-reader.js';

export type KeptAnswer = Pick<Answer, 'status' | 'contentType' | 'body'>;

/** One of so many first answers is kept, to be asked again when the rounds are over. */
const KEPT_ONE_IN = 50;

export class Ledger {
  /** Requests that were answered as if an order was placed for them. */
  placed = 0;
  readonly sample = new Map<string, KeptAnswer>();

  note(key: string, answer: Answer): void {
    this.placed += 1;
    if (this.placed % KEPT_ONE_IN === 0) this.sample.set(key, kept(answer));
  }
}

export function kept({ status, contentType, body }: Answer): KeptAnswer {
  return { status, contentType, body: Buffer.from(body) };
}

/** What differs, without a word of either. */
export function difference(first: KeptAnswer, again: Answer): string | undefined {
  if (again.status !== first.status) return `a replay has status ${again.status}, the first answer had ${first.status}`;
  if (again.contentType !== first.contentType) return `a replay is ${again.contentType}, the first answer was ${first.contentType}`;
  return again.body.equals(first.body) ? undefined : 'a replay has other bytes than the first answer';
}
