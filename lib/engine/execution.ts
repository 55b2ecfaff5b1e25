/** An execution that owns its key, from the claim to its settlement. It waits for nothing and decides nothing. */
import type { IdempotentExecution } from '../contract/execution.js';
import type { Claim, Identity, Ownership } from '../contract/record.js';
import type { ExecutionSettings } from '../contract/settings.js';
import { derivedKey } from './key.js';

export class OwnedExecution implements IdempotentExecution {
  /** Set as soon as the last write is on its way: what a renewal then finds says nothing any more. */
  settling = false;
  #lost = false;
  #abort: AbortController | undefined;
  #callOff: () => Promise<void> = () => Promise.resolve();

  constructor(
    readonly claim: Claim,
    readonly attempt: number,
    readonly settings: ExecutionSettings,
    /** `Controller.method`, for events and logs. */
    readonly handler: string,
    readonly startedAt: number,
  ) {}

  get identity(): Identity {
    return this.claim.identity;
  }

  get ownership(): Ownership {
    return this.claim;
  }

  get key(): string {
    return this.claim.identity.key;
  }

  get scope(): string {
    return this.claim.identity.scope;
  }

  /** Made when somebody asks for it: most handlers never do, and this is on every request's way. */
  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController();
      if (this.#lost) this.#abort.abort(leaseLost());
    }
    return this.#abort.signal;
  }

  keyFor(name: string): string {
    return derivedKey(this.claim.identity, name);
  }

  /** Whoever runs the handler says how the execution is ended before that has begun; `work` does nothing afterwards. */
  whenCalledOff(work: () => Promise<void>): void {
    this.#callOff = work;
  }

  /** Ends it if nothing has happened yet. */
  callOff(): Promise<void> {
    return this.#callOff();
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
