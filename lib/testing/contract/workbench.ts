/** What the cases of the contract suite are made of: claims, answers, and a store that is taken there by them. */
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import type { Claim, FoundRecord, Identity, Ownership, RecordState } from '../../contract/record.js';
import type { RecordedResponse } from '../../contract/recorded-response.js';
import type { IdempotencyStore, Lease } from '../../contract/store.js';

/** Generous: a database may be shared with other tests. */
export const IN_TIME = 20_000;
export const HOUR = 3_600_000;
/** A duration that a case lets pass. Where time can't be moved it is really waited for. */
export const BRIEF = 40;

export interface Case {
  /** What is promised, as the end of a sentence that begins with the store. */
  readonly name: string;
  readonly run: (bench: Workbench) => Promise<void>;
}

export class Workbench {
  constructor(
    readonly store: IdempotencyStore,
    /** How many do something at the same time. */
    readonly crowd: number,
    private readonly advanceTime: (ms: number) => void | Promise<void>,
  ) {}

  /** Lets `BRIEF` pass, and a little more. */
  async pass(): Promise<void> {
    await this.advanceTime(BRIEF + 10);
  }

  /** Claims a key that must be free. */
  async owned(claim: Claim = aClaim()): Promise<Claim> {
    const result = await this.store.claim(claim, IN_TIME);
    assert.equal(result.kind, 'claimed', 'a key that was thought to be free');
    return claim;
  }

  async completed(claim: Claim = aClaim(), answer = anAnswer()): Promise<Claim> {
    await this.owned(claim);
    assert.deepEqual(await this.store.complete(claim, answer, claim.retentionMs, IN_TIME), { kind: 'settled' });
    return claim;
  }

  async sealed(claim: Claim = aClaim()): Promise<Claim> {
    await this.owned(claim);
    assert.deepEqual(await this.store.seal(claim, 200, claim.retentionMs, IN_TIME), { kind: 'settled' });
    return claim;
  }

  async opened(claim: Claim = aClaim()): Promise<Claim> {
    await this.owned(claim);
    assert.equal(await this.record(claim, 'charge', '"ch_1"'), true);
    assert.equal(await this.store.release(claim, claim.retentionMs, IN_TIME), 'opened');
    return claim;
  }

  /** Its owner has claimed it, and its lease has passed. */
  async lost(claim: Claim = soonLost()): Promise<Claim> {
    await this.owned(claim);
    await this.pass();
    return claim;
  }

  /** A claim whose lease has passed, and the one that has taken over from it. */
  async superseded(before?: (late: Claim) => Promise<unknown>): Promise<{ readonly late: Claim; readonly current: Claim }> {
    const late = await this.owned(soonLost());
    await before?.(late);
    await this.pass();
    return { late, current: await this.takenOver(late) };
  }

  async takenOver(first: Claim): Promise<Claim> {
    const next = again(first);
    const result = await this.store.takeOver(next, await this.found(first), IN_TIME);
    assert.equal(result.kind, 'taken', 'a record that was thought to be lost or open');
    return next;
  }

  /** What another claim of that key meets. */
  async found(first: Claim): Promise<FoundRecord> {
    const result = await this.store.claim(again(first), IN_TIME);
    assert.equal(result.kind, 'found', 'a key that was thought to be taken');
    return result.record;
  }

  async stateOf({ identity }: Claim): Promise<RecordState | undefined> {
    return (await this.store.find(identity))?.state;
  }

  record(ownership: Ownership, name: string, result = '"done"'): Promise<boolean> {
    return this.store.recordStep(ownership, { name, result: Buffer.from(result) }, IN_TIME);
  }

  async stepsOf(ownership: Ownership): Promise<readonly (readonly [name: string, result: string])[]> {
    return (await this.store.steps(ownership, IN_TIME)).map(({ name, result }) => [name, result.toString()]);
  }

  /** All at the same moment; what each of them got. */
  together<T>(work: (index: number) => Promise<T>): Promise<readonly T[]> {
    return Promise.all(Array.from({ length: this.crowd }, (_, index) => work(index)));
  }
}

export function anIdentity(fields: Partial<Identity> = {}): Identity {
  return { id: randomUUID(), scope: 'id=1', operation: '', key: randomUUID(), ...fields };
}

export function aClaim(identity: Identity = anIdentity(), fields: Partial<Claim> = {}): Claim {
  const { id } = identity;
  return { identity, id, owner: randomUUID(), fingerprint: randomBytes(32), leaseMs: HOUR, retentionMs: HOUR, durable: true, ...fields };
}

/** Whose lease is brief. */
export function soonLost(identity?: Identity): Claim {
  return aClaim(identity, { leaseMs: BRIEF });
}

/** Whose record is kept briefly. */
export function soonExpired(identity?: Identity): Claim {
  return aClaim(identity, { retentionMs: BRIEF });
}

/** Another request's claim of the same key. */
export function again({ identity }: Claim): Claim {
  return aClaim(identity);
}

export function anAnswer(fields: Partial<RecordedResponse> = {}): RecordedResponse {
  return { status: 201, headers: [['content-type', 'application/json']], body: Buffer.from('{"charged":true}'), ...fields };
}

export function leaseOf({ id, owner }: Ownership, leaseMs = HOUR): Lease {
  return { id, owner, leaseMs };
}

export function hasCode(code: string): (error: unknown) => boolean {
  return (error) => {
    assert.equal((error as { readonly code?: unknown }).code, code);
    return true;
  };
}
