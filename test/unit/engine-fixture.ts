/** A store that does what a test tells it, and what the engine is given beside it. */
import { randomBytes, randomUUID } from 'node:crypto';
import { StoreUnavailable } from '../../lib/contract/errors.js';
import type { EventSink, IdempotencyEvent, IdempotencyEventType } from '../../lib/contract/events.js';
import type { Claim, ClaimResult, FoundRecord, RecordState } from '../../lib/contract/record.js';
import type { RecordedResponse } from '../../lib/contract/recorded-response.js';
import type { ExecutionSettings } from '../../lib/contract/settings.js';
import type { IdempotencyStore } from '../../lib/contract/store.js';
import type { RecordTransaction } from '../../lib/contract/transaction.js';
import { Engine } from '../../lib/engine/engine.js';
import type { Admission, EngineSettings } from '../../lib/engine/engine.js';
import { OwnedExecution } from '../../lib/engine/execution.js';
import { identify } from '../../lib/engine/key.js';
import { ManualClock } from '../support/manual-clock.js';

export const SECOND = 1000;

const SETTINGS: ExecutionSettings = {
  retentionMs: 86_400 * SECOND,
  leaseMs: 60 * SECOND,
  retryAfterMs: 2 * SECOND,
  window: undefined,
  onLostExecution: 'rerun',
  durableClaim: true,
  atomic: undefined,
  waitMs: 0,
  storeTimeoutMs: 5 * SECOND,
  onStoreFailure: 'reject',
  maxBodyBytes: 1024,
  keeps: (status) => status < 500,
};

const FINGERPRINT = randomBytes(32);
export const ANSWER: RecordedResponse = {
  status: 201,
  headers: [['content-type', 'application/json']],
  body: Buffer.from('{"paid":true}'),
};

export function anAdmission(fields: Partial<Omit<Admission, 'settings'>> = {}, settings: Partial<ExecutionSettings> = {}): Admission {
  return {
    identity: identify('id=1', '', randomUUID()),
    fingerprint: FINGERPRINT,
    handler: 'Payments.create',
    settings: { ...SETTINGS, ...settings },
    waitMs: settings.waitMs ?? SETTINGS.waitMs,
    ...fields,
  };
}

export function anExecution(settings: Partial<ExecutionSettings> = {}): OwnedExecution {
  const { identity, fingerprint, handler, settings: resolved } = anAdmission({}, settings);
  const claim: Claim = {
    id: identity.id,
    owner: randomUUID(),
    identity,
    fingerprint,
    leaseMs: resolved.leaseMs,
    retentionMs: resolved.retentionMs,
    durable: resolved.durableClaim,
  };
  return new OwnedExecution({ claim, keyed: true, attempt: 1, settings: resolved, handler, startedAt: 0 });
}

/** A record as a claim finds it, of the same request unless told otherwise. */
export function aRecord<State extends RecordState>(state: State, fields: Partial<FoundRecord> = {}): FoundRecord {
  const common = { fingerprint: FINGERPRINT, owner: randomUUID(), attempt: 1, retentionLeftMs: 60 * 60 * SECOND };
  const particulars = { running: { leaseLeftMs: 30 * SECOND }, completed: { answer: ANSWER }, lost: {}, sealed: {}, open: {} }[state];
  return { state, ...common, ...particulars, ...fields } as FoundRecord;
}

export const found = (record: FoundRecord): ClaimResult => ({ kind: 'found', record });
export const CLAIMED: ClaimResult = { kind: 'claimed', attempt: 1 };

export const outage = (): StoreUnavailable => new StoreUnavailable({ cause: new Error('connect ECONNREFUSED') });

/** Gives one answer after the other, and the last one again and again. An `Error` is thrown. */
export function inTurn<Answer>(...answers: [Answer | Error, ...(Answer | Error)[]]): () => Promise<Answer> {
  let next = 0;
  return async () => {
    const answer = answers[Math.min(next++, answers.length - 1)]!;
    if (answer instanceof Error) throw answer;
    return answer;
  };
}

export type StoreCall = {
  [Method in keyof IdempotencyStore]-?: { readonly method: Method; readonly args: Parameters<Required<IdempotencyStore>[Method]> };
}[keyof IdempotencyStore];

export interface FakeStore extends IdempotencyStore {
  readonly calls: readonly StoreCall[];
  called<Method extends keyof IdempotencyStore>(method: Method): Parameters<Required<IdempotencyStore>[Method]>[];
}

/** Everything goes well, except where `methods` say otherwise. */
export function fakeStore(methods: Partial<IdempotencyStore> = {}): FakeStore {
  const calls: StoreCall[] = [];
  const behaviour: IdempotencyStore = {
    claim: async () => CLAIMED,
    takeOver: async () => ({ kind: 'taken', attempt: 2 }),
    complete: async () => ({ kind: 'settled' }),
    seal: async () => ({ kind: 'settled' }),
    release: async () => 'freed',
    steps: async () => [],
    recordStep: async () => true,
    flush: async () => true,
    transaction: async () => aTransaction(),
    outcomeOf: async () => 'rolled-back',
    renew: async (leases) => leases.map(({ id }) => id),
    listen: () => () => undefined,
    find: async () => undefined,
    resolve: async () => 'absent',
    forget: async () => 'absent',
    forgetScope: async () => 0,
    stats: async () => ({ running: 0, lost: 0, completed: 0, sealed: 0, open: 0, expired: 0 }),
    reap: async () => 0,
    inspect: async () => ({ synchronousCommit: 'on', connectionLimit: undefined }),
    close: async () => undefined,
    ...methods,
  };
  const recorded = Object.entries(behaviour).map(([method, work]) => [
    method,
    (...args: never[]) => {
      calls.push({ method, args } as unknown as StoreCall);
      return (work as (...args: never[]) => unknown)(...args);
    },
  ]);
  return {
    ...(Object.fromEntries(recorded) as IdempotencyStore),
    calls,
    called: <Method extends keyof IdempotencyStore>(method: Method) =>
      calls.filter((call) => call.method === method).map(({ args }) => args as Parameters<Required<IdempotencyStore>[Method]>),
  };
}

/** A transaction that comes through, and notes what it was asked for in `asked`; except where `methods` say otherwise. */
export function aTransaction(methods: Partial<RecordTransaction> = {}, asked: string[] = []): RecordTransaction {
  const noted =
    <Result>(word: string, result: Result) =>
    async (): Promise<Result> => {
      asked.push(word);
      return result;
    };
  return {
    manager: undefined,
    client: { query: async () => ({ rows: [], rowCount: 0 }) },
    keepAlive: noted('keepAlive', undefined),
    probe: noted('probe', undefined),
    savepoint: (work) => work(),
    write: async ({ kind }) => noted(`write ${kind}`, true)(),
    recordStep: noted('recordStep', true),
    commit: async (last) => noted(last === undefined ? 'commit' : `commit ${last.kind}`, { kind: 'committed' } as const)(),
    undo: async ({ kind }) => noted(`undo, ${kind}`, { kind: 'committed' } as const)(),
    rollBack: noted('rollBack', undefined),
    ...methods,
  };
}

/** Listens to everything. */
export class EventLog implements EventSink {
  readonly events: IdempotencyEvent[] = [];
  readonly causes: unknown[] = [];

  wants(): boolean {
    return true;
  }

  emit(event: IdempotencyEvent, cause?: unknown): void {
    this.events.push(event);
    this.causes.push(cause);
  }

  get types(): IdempotencyEventType[] {
    return this.events.map(({ type }) => type);
  }
}

export interface EngineBench {
  readonly engine: Engine;
  readonly store: FakeStore;
  readonly clock: ManualClock;
  readonly log: EventLog;
  /** Begins, and says so if it may not run. */
  run(admission?: Admission): Promise<OwnedExecution>;
}

export function anEngine(methods: Partial<IdempotencyStore> = {}, settings: Partial<EngineSettings> = {}): EngineBench {
  const [store, clock, log] = [fakeStore(methods), new ManualClock(), new EventLog()];
  const engine = new Engine(store, clock, log, { maxWaiters: 1000, transactionGuard: () => undefined, ...settings });
  return {
    engine,
    store,
    clock,
    log,
    async run(admission = anAdmission()) {
      const verdict = await engine.begin(admission);
      if (verdict.kind !== 'run') throw new Error(`The verdict was ${verdict.kind}.`);
      return verdict.execution;
    },
  };
}

/** A promise that the test settles, and whether somebody waits for it. */
export function gate<T = void>(): { readonly promise: Promise<T>; open(value: T): void; fail(error: Error): void } {
  let open!: (value: T) => void;
  let fail!: (error: Error) => void;
  const promise = new Promise<T>((resolve, reject) => {
    open = resolve;
    fail = reject;
  });
  return { promise, open, fail };
}
