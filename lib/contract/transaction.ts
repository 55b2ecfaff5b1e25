/**
 * A transaction of the application's in which its business rows and what is recorded of them commit
 * together. Where it holds the record's row, that lock is the execution's lease, and it is gone the
 * moment the process or its connection is.
 *
 * It is *open*, or *over*. What the handler was handed works while it is open and throws afterwards,
 * so that a forgotten `await` can't write into whatever the connection does next.
 */
import type { Promptness } from './promptness.js';
import type { Ownership, RecordedStep } from './record.js';
import type { RecordedResponse } from './recorded-response.js';

/** `undefined`: as the database has it. */
export type IsolationLevel = 'READ COMMITTED' | 'REPEATABLE READ' | 'SERIALIZABLE';

export interface TransactionSettings {
  readonly isolation: IsolationLevel | undefined;
  /** Postgres ends the transaction when nothing has come from us for that long: the lease of a process that is stuck. */
  readonly idleMs: number;
  /** Longest wait for a connection of the application's, and for each of our own statements on it, COMMIT included. */
  readonly connectMs: number;
  /** Called before each use of what is handed out; throws to refuse it. */
  readonly guard: () => void;
  /** Whether it holds the record's row. A phase of a plain execution does not: its lease is renewed from elsewhere. */
  readonly holdsRecord: boolean;
  /**
   * Of its handler, and told what is seen of it. A prompt handler's transaction may still have to begin when it is handed out,
   * and does with its first statement. If that finds the record's row to be somebody else's, it is not carried out, and rejects
   * with `ExecutionSuperseded`; and so does everything after it.
   */
  readonly promptness?: Promptness;
}

/** What becomes of a COMMIT. */
export type CommitResult =
  | { readonly kind: 'committed' }
  /** Postgres refused and rolled back. `transient`: a serialization failure or a deadlock, which another try may not meet. */
  | { readonly kind: 'refused'; readonly transient: boolean; readonly cause: unknown }
  /** The connection broke: it may have come through or not. */
  | { readonly kind: 'unknown'; readonly cause: unknown }
  /** The record is not this owner's any more. Nothing is left of the transaction. */
  | { readonly kind: 'superseded' };

/** How a record ends that is kept. Its owner writes it. */
export type KeepingWrite = { readonly ownership: Ownership; readonly retentionMs: number } & (
  { readonly kind: 'complete'; readonly answer: RecordedResponse } | { readonly kind: 'seal'; readonly status: number | undefined }
);

export type LastWrite = KeepingWrite | { readonly kind: 'release'; readonly ownership: Ownership; readonly retentionMs: number };

/** What a handler asks of the transaction's connection, in `pg`'s form. */
export interface TransactionQuery {
  /** Postgres keeps what it made of the text under this name, as long as the connection lives, and need not parse and plan it again. */
  readonly name?: string;
  readonly text: string;
  readonly values?: readonly unknown[];
}

/** `pg`'s way to ask, for handlers that don't use an ORM. */
export interface TransactionClient {
  query<Row = Record<string, unknown>>(
    query: string | TransactionQuery,
    values?: readonly unknown[],
  ): Promise<{ readonly rows: Row[]; readonly rowCount: number | null }>;
}

export interface RecordTransaction {
  /** TypeORM's `EntityManager` of this transaction; `undefined` where the store was given a plain `pg` pool. */
  readonly manager: unknown;
  readonly client: TransactionClient;
  /** Resets Postgres' idle timer. Never rejects: a broken connection shows at the next real statement. */
  keepAlive(): Promise<void>;
  /**
   * Asks for what would otherwise be told at COMMIT: deferred constraints are checked, now and from here on, and a
   * serializable transaction that holds its record's row hears if another one has doomed it. Rejects with what Postgres says.
   */
  probe(): Promise<void>;
  /** A part of it that can be undone by itself. */
  savepoint<T>(work: () => Promise<T>): Promise<T>;
  /** The end of a record, as of an execution within its own one, to be committed with the rest. `false`: not its owner any more. */
  write(last: LastWrite): Promise<boolean>;
  recordStep(ownership: Ownership, step: RecordedStep): Promise<boolean>;
  /**
   * From here on what was handed out throws. The connection goes back to its pool.
   *
   * @param last of the record that it holds; committed with the rest, or neither is, and without a trip of its own
   */
  commit(last?: KeepingWrite): Promise<CommitResult>;
  /**
   * Likewise, but everything that was done in it is undone, and `last` is committed alone. In between nobody holds
   * the row: where its lease is over, a claim that comes in that very instant may take it, and `last` is refused.
   */
  undo(last: LastWrite): Promise<CommitResult>;
  /** Likewise. Never rejects. */
  rollBack(): Promise<void>;
}
