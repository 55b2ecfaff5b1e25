/** An execution, from the claim to its settlement. It waits for nothing and decides nothing. */
import { ExecutionSuperseded } from '../contract/errors.js';
import type { Claim, FoundRecord, Identity, Ownership } from '../contract/record.js';
import type { ExecutionSettings } from '../contract/settings.js';
import type { RecordTransaction } from '../contract/transaction.js';
import type { Ending } from './verdict.js';
import { derivedKey } from './key.js';

export interface ExecutionFacts {
  readonly claim: Claim;
  /** `false` for a request without a key: it owns nothing, and nothing is recorded of it. */
  readonly keyed: boolean;
  readonly attempt: number;
  readonly settings: ExecutionSettings;
  /** `Controller.method`, for events and logs. */
  readonly handler: string;
  readonly startedAt: number;
}

/** Who runs the handler. */
export interface Runner {
  /** Ends the execution if the handler has not begun; does nothing afterwards. */
  callOff(): Promise<void>;
}

interface Joined {
  readonly execution: OwnedExecution;
  readonly ending: Ending;
}

export class OwnedExecution implements ExecutionFacts {
  readonly claim: Claim;
  readonly keyed: boolean;
  readonly attempt: number;
  readonly settings: ExecutionSettings;
  readonly handler: string;
  readonly startedAt: number;
  /** Set as soon as the last write is on its way: what a renewal then finds says nothing any more. */
  settling = false;
  /** Until when nobody else can own its key, by this process's clock: its lease was asked for before it began. */
  leasedUntil: number;
  /** When its handler's turn came, and when that was over. */
  claimedAt: number;
  settlingAt: number;
  /** How often its handler has been called: an atomic one may be repeated. */
  runs = 1;
  /** Something of it may still be committed behind our back, so that its key must not be given back. */
  inDoubt = false;
  /** In atomic mode, once it has begun, or will with the handler's first statement. */
  transaction: RecordTransaction | undefined;
  #lost = false;
  #abort: AbortController | undefined;
  #runner: Runner | undefined;
  // Few executions have any of these two.
  #joined: Joined[] | undefined;
  #recordings: Set<Promise<void>> | undefined;

  constructor({ claim, keyed, attempt, settings, handler, startedAt }: ExecutionFacts) {
    this.claim = claim;
    this.keyed = keyed;
    this.attempt = attempt;
    this.settings = settings;
    this.handler = handler;
    this.startedAt = startedAt;
    this.claimedAt = startedAt;
    this.settlingAt = startedAt;
    this.leasedUntil = startedAt + claim.leaseMs;
  }

  get identity(): Identity {
    return this.claim.identity;
  }

  get ownership(): Ownership {
    return this.claim;
  }

  get isLost(): boolean {
    return this.#lost;
  }

  /**
   * Whether the key is still its own, without asking: nobody has said otherwise, its end is not on its
   * way, and its lease has not run out unnoticed while this process stood still. A transaction needs no
   * lease, since it holds the record.
   */
  isOwner(now: number): boolean {
    return !this.#lost && !this.settling && (this.transaction !== undefined || now < this.leasedUntil);
  }

  /** Its record, as a claim would find it now. */
  asFound(now: number): FoundRecord {
    const { fingerprint, owner, retentionMs } = this.claim;
    const retentionLeftMs = retentionMs - (now - this.startedAt);
    return {
      state: 'running',
      fingerprint,
      owner,
      attempt: this.attempt,
      retentionLeftMs,
      leaseLeftMs: Math.max(0, this.leasedUntil - now),
    };
  }

  /** Made when somebody asks for it: most handlers never do, and this is on every request's way. */
  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController();
      if (this.#lost) this.#abort.abort(leaseLost());
    }
    return this.#abort.signal;
  }

  /**
   * A request in a window may be sent again when that is over, and then means another thing: so its
   * keys hang on this life of the record, which all attempts have in common and no later execution has.
   */
  keyFor(name: string): string {
    const { identity, fingerprint } = this.claim;
    return derivedKey(this.settings.window === undefined ? identity : { ...identity, key: fingerprint.toString('hex') }, name);
  }

  /** What is left of the retention for a record that is settled now; the window's counts from the start, and may be over. */
  retentionMsAt(now: number): number {
    const { retentionMs, window } = this.settings;
    return window === undefined ? retentionMs : Math.max(1, retentionMs - (now - this.startedAt));
  }

  /** Whoever runs the handler says so, to be asked when there is no more time for it. */
  whenCalledOff(runner: Runner): void {
    this.#runner = runner;
  }

  /** Ends it if nothing has happened yet. */
  async callOff(): Promise<void> {
    await this.#runner?.callOff();
  }

  /** Another one has written its end into this one's transaction, and comes through or vanishes with it. */
  join(execution: OwnedExecution, ending: Ending): void {
    this.#joined ??= [];
    this.#joined.push({ execution, ending });
  }

  /** All that have joined since this was asked last. */
  takeJoined(): readonly Joined[] {
    const joined = this.#joined ?? [];
    this.#joined = undefined;
    return joined;
  }

  /**
   * Records a phase before the end: whether any was recorded decides what the end is. One that comes
   * later, as a forgotten `await` lets it, would be recorded for nobody, and its rows be there twice.
   *
   * @throws ExecutionSuperseded once the end is on its way
   */
  async recording(work: () => Promise<void>): Promise<void> {
    if (this.settling) throw new ExecutionSuperseded();
    const recording = work();
    const recordings = (this.#recordings ??= new Set());
    recordings.add(recording);
    await recording.finally(() => recordings.delete(recording));
  }

  /** Resolves when no phase is being recorded any more, and never rejects; `undefined` when none is. */
  recorded(): Promise<unknown> | undefined {
    return this.#recordings === undefined || this.#recordings.size === 0 ? undefined : Promise.allSettled(this.#recordings);
  }

  /** Notes that somebody else owns the key. `false` if that was known already. */
  lose(): boolean {
    if (this.#lost) return false;
    this.#lost = true;
    this.#abort?.abort(leaseLost());
    return true;
  }
}

function leaseLost(): DOMException {
  return new DOMException('The lease of this idempotency key was lost; another execution owns it now.', 'AbortError');
}
