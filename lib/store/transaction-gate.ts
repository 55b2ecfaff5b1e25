/**
 * What stands between a transaction and those who were handed it. It is open while the transaction
 * is; afterwards everything is refused at the moment it would be sent, so that a forgotten `await`
 * can't write into what the connection does next. It also refuses to end the transaction, which is
 * not the handler's to do.
 */
import type { PoolClient } from 'pg';
import { TransactionMisused } from '../contract/errors.js';
import type { Sent } from './passenger.js';
import { isOfAbortedTransaction } from './postgres-error.js';

/** Whoever has to do with a handler's first statement. */
export interface FirstStatement {
  /** Hands it to the driver sooner or later, and tells what the driver does. */
  send(sent: Sent): unknown;
}

export class TransactionGate {
  /** Until the first statement is through. */
  first: FirstStatement | undefined;
  #closed = false;
  #failure: unknown;

  /** @param guard called before each use; throws to refuse it */
  constructor(private readonly guard: () => void) {}

  /** What went wrong last. In a transaction that is aborted by it, every later error only says that it is. */
  get failure(): unknown {
    return this.#failure;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  close(): void {
    this.#closed = true;
  }

  /** Hands what has passed to the driver, in any of the forms that this takes. */
  send(client: PoolClient, ...sent: Sent): unknown {
    return this.first === undefined ? handTo(client, sent) : this.first.send(sent);
  }

  /** @throws when this must not be sent */
  pass(query?: unknown): void {
    if (this.#closed) {
      throw new TransactionMisused('The transaction of this execution is over. Something still uses it: look for a missing "await".');
    }
    this.guard();
    if (endsTransaction(query)) this.refuseToEnd();
  }

  refuseToEnd(): never {
    throw new TransactionMisused(
      'The transaction of this execution is committed with its answer, and rolled back when the handler throws. ' +
        'It cannot be ended by hand; for a part that can be undone by itself, use manager.transaction() or a savepoint.',
    );
  }

  /** Remembers what comes of something that was sent. */
  watch<T>(sent: T): T {
    void Promise.resolve(sent).catch((error: unknown) => this.failed(error));
    return sent;
  }

  /** The same for those who see it fail themselves. */
  failed(error: unknown): void {
    if (!isOfAbortedTransaction(error)) this.#failure = error;
  }
}

export function handTo(client: PoolClient, sent: Sent): unknown {
  return (client.query as (...sent: unknown[]) => unknown).apply(client, sent as unknown[]);
}

/** After blanks and comments. `ROLLBACK TO` a savepoint ends nothing. */
const ENDS_TRANSACTION =
  /^(?:\s|;|--[^\n]*(?:\n|$)|\/\*[\s\S]*?\*\/)*(?:commit|end|abort|prepare\s+transaction|rollback(?!(?:\s+(?:work|transaction))?\s+to\b))\b/i;

function endsTransaction(query: unknown): boolean {
  const text = typeof query === 'object' && query !== null && 'text' in query ? query.text : query;
  return typeof text === 'string' && ENDS_TRANSACTION.test(text);
}
