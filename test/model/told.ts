/** What engines say, in the model's words, and how it is compared. */
import { isIdempotencyError } from '../../lib/contract/errors.js';
import type { RecordedResponse } from '../../lib/contract/recorded-response.js';
import type { Ending, Settlement, Verdict } from '../../lib/engine/verdict.js';
import { statusOf, type Expected, type Work } from './model.js';
import type { Outcome } from './schedule.js';

export function endingOf({ id }: Work, outcome: Outcome): Ending {
  const status = statusOf(outcome);
  const answer: RecordedResponse = { status, headers: [], body: Buffer.from(String(id)) };
  switch (outcome) {
    case 'created':
      return { kind: 'keep', answer, undo: false };
    case 'refused':
      return { kind: 'keep', answer, undo: true };
    case 'failed':
      return { kind: 'free' };
    case 'huge':
      return { kind: 'seal', status, undo: false };
  }
}

export function verdictTold(verdict: Verdict): Expected | 'bypass' {
  switch (verdict.kind) {
    case 'run':
      return { kind: 'run', attempt: verdict.execution.attempt };
    case 'replay':
      return replayTold(verdict.answer);
    case 'refuse':
      return { kind: 'refuse', code: verdict.error.code };
    case 'bypass':
      return 'bypass';
  }
}

export function told(settlement: Settlement): Expected | 'send' {
  switch (settlement.kind) {
    case 'send':
      return 'send';
    case 'replay':
      return replayTold(settlement.answer);
    case 'refuse':
      return { kind: 'refuse', code: settlement.error.code };
  }
}

function replayTold({ status, body }: RecordedResponse): Expected {
  return { kind: 'replay', by: Number(body.toString()), status };
}

/** The value, or which error it was. */
export async function outcomeOf(work: Promise<unknown>): Promise<unknown> {
  try {
    return await work;
  } catch (error) {
    return isIdempotencyError(error) ? error.code : (error as Error).message;
  }
}

export const equal = (one: unknown, other: unknown): boolean => JSON.stringify(one) === JSON.stringify(other);

export function same(actual: unknown, expected: unknown, what: string): void {
  if (!equal(actual, expected)) throw new Error(`${what} is ${JSON.stringify(actual)}, and should be ${JSON.stringify(expected)}`);
}
