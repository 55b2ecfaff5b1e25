/**
 * The beginning of a transaction whose handler sends its first statement at once, as it has each time so far. It
 * waits for that statement and leaves with it, which saves a round trip. Postgres carries the statement out only if
 * the beginning has come through, so it holds the record's row by then. Whatever else is sent waits until both are
 * answered. Where no statement comes, the beginning leaves alone before anything else happens in the process, and the
 * handler does not count as prompt any more.
 */
import type { PoolClient } from 'pg';
import type { Promptness } from '../contract/promptness.js';
import { Passenger, canGoAlong, type Sent } from './passenger.js';
import { handTo, type FirstStatement, type TransactionGate } from './transaction-gate.js';

export interface OpeningParts {
  readonly client: PoolClient;
  readonly gate: TransactionGate;
  readonly promptness: Promptness;
  /** Sends the beginning, before it returns. Rejects with what handlers are to see of a failure. */
  readonly begin: (passenger?: Passenger) => Promise<void>;
}

export class Opening implements FirstStatement {
  #begun: Promise<void> | undefined;

  constructor(private readonly parts: OpeningParts) {
    parts.gate.first = this;
    onceAllPromisesAreThrough(() => {
      if (this.#begun !== undefined || parts.gate.isClosed) return;
      parts.promptness.saw(false);
      void this.begun();
    });
  }

  /** The transaction is to be there: it begins alone, if it has not begun. */
  begun(): Promise<void> {
    return this.#begun ?? this.#begin();
  }

  /** What has not will not, once the gate is closed. */
  get hasLeft(): boolean {
    return this.#begun !== undefined;
  }

  send(sent: Sent): unknown {
    if (this.#begun !== undefined || !canGoAlong(sent)) return this.#sendLater(sent);
    const passenger = new Passenger();
    void this.#begin(passenger);
    if (!passenger.isWaitedFor()) return this.#sendLater(sent);
    try {
      return handTo(this.parts.client, sent);
    } finally {
      passenger.board(this.parts.client);
    }
  }

  #begin(passenger?: Passenger): Promise<void> {
    const { gate, begin } = this.parts;
    const begun = (this.#begun = begin(passenger));
    // Before all who wait: whatever is sent directly from here on finds them in the driver's queue.
    begun.then(
      () => (gate.first = undefined),
      (error: unknown) => passenger?.refuse(error),
    );
    return begun;
  }

  /** In whichever form the driver is asked, it answers in that. */
  #sendLater(sent: Sent): unknown {
    const { client, gate } = this.parts;
    const sending = this.begun().then(() => {
      gate.pass(sent[0]);
      return handTo(client, sent);
    });
    const query = sent[0] as Askable | string | null;
    const asked = typeof query === 'object' && query !== null ? query : undefined;
    if (asked?.submit !== undefined) {
      sending.catch((error: unknown) => asked.handleError?.(error));
      return query;
    }
    const told = sent.findLast(isListener) ?? asked?.callback;
    if (told === undefined) return sending;
    sending.catch(told);
    return undefined;
  }
}

type Listener = (error: unknown) => void;

const isListener = (part: unknown): part is Listener => typeof part === 'function';

/** The forms in which the driver is asked, beside a text. */
interface Askable {
  readonly callback?: Listener;
  /** One that sends itself. */
  readonly submit?: unknown;
  handleError?(error: unknown): void;
}

/** Sees whether the first statement of a handler comes at once; of one that ends its transaction in its first turn, there is nothing to be seen. */
export function lookOut(client: PoolClient, gate: TransactionGate, promptness: Promptness): void {
  const first: FirstStatement = {
    send(sent) {
      gate.first = undefined;
      promptness.saw(true);
      return handTo(client, sent);
    },
  };
  gate.first = first;
  onceAllPromisesAreThrough(() => {
    if (gate.first === first && !gate.isClosed) promptness.saw(false);
  });
}

/** Asked from within one: after whatever those lead to that wait for nothing. An end of the event loop's turn can be had, and costs more. */
function onceAllPromisesAreThrough(then: () => void): void {
  process.nextTick(then);
}
