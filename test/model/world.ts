/** Carries a schedule out on real engines and a real database, and compares each thing that happens with the model. */
import { randomUUID } from 'node:crypto';
import type { Pool } from 'pg';
import type { EntityManager } from 'typeorm';
import type { Identity } from '../../lib/contract/record.js';
import type { Admission } from '../../lib/engine/engine.js';
import type { OwnedExecution } from '../../lib/engine/execution.js';
import { identify } from '../../lib/engine/key.js';
import { HOT_READS, MOMENT_MS } from '../../lib/engine/replay-memory.js';
import type { Settlement, Verdict } from '../../lib/engine/verdict.js';
import { Steps } from '../../lib/recipes/steps.js';
import { IN_USE, KeyModel, type Expected, type Work } from './model.js';
import { LEASE_UNITS, Process, UNIT_MS, settingsOf } from './processes.js';
import { KEYS, type Action, type Outcome, type Request } from './schedule.js';
import { endingOf, equal, outcomeOf, same, told, verdictTold } from './told.js';

const FINGERPRINTS: Readonly<Record<Request, Buffer>> = { A: Buffer.alloc(32, 'A'), B: Buffer.alloc(32, 'B') };

/** An execution that is at work, in the model and in truth. */
interface AtWork {
  readonly work: Work;
  readonly execution: OwnedExecution;
  readonly steps: Steps;
}

interface Key extends KeyModel {
  readonly identity: Identity;
}

export class World {
  readonly #keys: readonly Key[];
  readonly #stalled = new Set<number>();
  #atWork: readonly AtWork[] = [];
  #count = 0;

  /** @param processes of which one that has ended is replaced in its place */
  constructor(
    private readonly database: { readonly url: string; readonly pool: Pool },
    private readonly processes: Process[],
  ) {
    const scope = randomUUID();
    this.#keys = KEYS.map((mode) => Object.assign(new KeyModel(mode), { identity: identify(scope, '', mode) }));
  }

  async do(action: Action): Promise<void> {
    await this.#act(action);
    await this.#compare();
  }

  /** Lets everybody finish, so that nothing is left for the next schedule. */
  async end(): Promise<void> {
    for (const { execution } of this.#atWork) await this.#processOf(execution).engine.settle(execution, { kind: 'free' });
  }

  async #act(action: Action): Promise<void> {
    switch (action.does) {
      case 'request': {
        const key = this.#keys[action.key]!;
        const expected = key.expected(action.request, action.process, action.onLost);
        this.#judge(await this.#begin(action.process, key, action.request, action.onLost), expected, key, action);
        return;
      }
      case 'storm':
        return this.#storm(this.#keys[action.key]!, action.requests);
      case 'step':
      case 'phase':
        return this.#inOne(action.execution, (one) => this.#step(one, action));
      case 'end':
        return this.#inOne(action.execution, async (one) => {
          const settlement = await this.#settle(one, action.outcome);
          same(told(settlement), one.work.key.end(one.work, action.outcome), `what the client of ${one.work.id} is told`);
        });
      case 'end-and-retry':
        return this.#inOne(action.execution, (one) => this.#endAndRetry(one, action.process));
      case 'crash':
        return this.#replace(action.process);
      case 'shutdown':
        return this.#shutDown(action.process, action.inTime);
      case 'stall':
        return void this.#stalled.add(action.process);
      case 'wake':
        return void this.#stalled.delete(action.process);
      case 'time':
        return this.#pass(action.units);
      case 'overtake':
        return this.#inOne(action.execution, async ({ work: { key, process, request } }) => {
          this.#stalled.add(process);
          await this.#pass(LEASE_UNITS);
          await this.#act({ does: 'request', process: action.process, key: this.#keys.indexOf(key as Key), request, onLost: 'rerun' });
        });
      case 'reap':
        return void (await this.processes[action.process]!.store.reap(1000));
      case 'forget':
        return this.#forget(action.process, this.#keys[action.key]!);
      case 'crowd':
        return this.#crowd(action.process, this.#keys[action.key]!);
    }
  }

  #begin(process: number, { identity, mode }: Key, request: Request, onLost: 'rerun' | 'reject'): Promise<Verdict> {
    const settings = settingsOf(mode, onLost);
    const admission: Admission = { identity, fingerprint: FINGERPRINTS[request], settings, handler: 'Payments.create', waitMs: 0 };
    return this.processes[process]!.engine.begin(admission);
  }

  #judge(
    verdict: Verdict,
    expected: Expected,
    key: Key,
    { process, request }: { readonly process: number; readonly request: Request },
  ): void {
    same(verdictTold(verdict), expected, `the verdict on ${request} in process ${process}`);
    if (verdict.kind === 'run') this.#start(verdict.execution, key, process, request);
  }

  #start(execution: OwnedExecution, key: Key, process: number, request: Request): void {
    const work: Work = {
      id: (this.#count += 1),
      process,
      key,
      request,
      attempt: execution.attempt,
      found: undefined,
      used: new Set(),
      knows: false,
      rows: 0,
    };
    const { store } = this.processes[process]!;
    const steps = new Steps({
      store,
      execution,
      partOf: () => execution.transaction,
      apart: (foreign) => foreign(),
      guard: () => undefined,
    });
    key.begin(work);
    for (const other of this.#of(process)) other.work.knows ||= other.work.key === key; // told at once by whoever supersedes it
    this.#atWork = [...this.#atWork, { work, execution, steps }];
  }

  /** Of any number that come at once, one runs if one alone would; what the others hear depends on which. */
  async #storm(key: Key, requests: readonly Request[]): Promise<void> {
    const came = requests.map((request, i) => ({ request, process: i % this.processes.length }));
    const alone = came.map(({ request, process }) => key.expected(request, process, 'rerun'));
    const verdicts = await Promise.all(came.map(({ request, process }) => this.#begin(process, key, request, 'rerun')));
    const winner = verdicts.findIndex(({ kind }) => kind === 'run');
    same(
      winner >= 0,
      alone.some(({ kind }) => kind === 'run'),
      'whether one of them runs',
    );
    if (winner >= 0) this.#judge(verdicts[winner]!, alone[winner]!, key, came[winner]!);
    for (const [i, verdict] of verdicts.entries()) {
      if (i !== winner) this.#judge(verdict, key.expected(came[i]!.request, came[i]!.process, 'rerun'), key, came[i]!);
    }
  }

  async #step({ work, execution, steps }: AtWork, { does, name, throws }: Extract<Action, { does: 'step' | 'phase' }>): Promise<void> {
    if (work.used.has(name)) return;
    work.used.add(name);
    const { key } = work;
    const { state } = key;
    const owned = state.is === 'running' && state.owner === work ? state : undefined;
    const isPart = does === 'phase' && key.mode === 'atomic';
    if (!isPart && !work.knows && work.attempt > 1) work.found ??= new Map(owned?.steps ?? []);
    const found = isPart ? undefined : work.found?.get(name);
    const result = (this.#count += 1);

    let ran = 0;
    const happened = await outcomeOf(
      does === 'step'
        ? steps.step(name, () => this.#call(() => (ran += 1), result, throws))
        : steps.transaction(name, async (manager) => {
            await insertRow(manager as EntityManager, (key as Key).identity);
            return this.#call(() => (ran += 1), result, throws);
          }),
    );
    if (work.knows) return same([happened, ran], ['IDEMPOTENCY_EXECUTION_SUPERSEDED', 0], `a step of ${work.id}, which knows better`);
    if (found !== undefined) return same([happened, ran], [found, 0], `the recorded step ${name} of ${work.id}`);
    same(
      [happened, ran],
      [throws ? 'it threw' : owned === undefined ? 'IDEMPOTENCY_EXECUTION_SUPERSEDED' : result, 1],
      `the step ${name} of ${work.id}`,
    );
    if (throws || owned === undefined) return;
    if (!isPart) owned.steps.set(name, result);
    if (isPart) work.rows += 1;
    else if (does === 'phase') key.rows += 1;
    same(execution.isLost, false, `whether ${work.id} is lost`);
  }

  async #call(note: () => void, result: number, throws: boolean): Promise<number> {
    note();
    if (throws) throw new Error('it threw');
    return result;
  }

  /** Either the end comes first, and the retry hears of it; or the retry does, and the end comes too late. */
  async #endAndRetry(one: AtWork, process: number): Promise<void> {
    const { work } = one;
    const key = work.key as Key;
    const alone = key.expected(work.request, process, 'rerun');
    const [settlement, verdict] = await Promise.all([this.#settle(one, 'created'), this.#begin(process, key, work.request, 'rerun')]);
    if (verdict.kind === 'run' || !key.isOwnedBy(work)) {
      this.#judge(verdict, alone, key, { process, request: work.request });
      return same(told(settlement), key.end(work, 'created'), `what the client of ${work.id} is told, which is late`);
    }
    same(told(settlement), key.end(work, 'created'), `what the client of ${work.id} is told`);
    const heard = verdictTold(verdict);
    if (!equal(heard, IN_USE)) same(heard, key.expected(work.request, process, 'rerun'), 'the verdict on the retry');
  }

  /** The process itself knows at once, whatever it has at hand, and the others within a moment. */
  async #forget(process: number, key: Key): Promise<void> {
    await this.#crowd(process, key);
    const { store, engine } = this.processes[process]!;
    const { id } = key.identity;
    const forgotten = await store.forget(key.identity).finally(() => engine.lookAfresh((identity) => identity.id === id));
    same(forgotten, key.forget(), 'what forget says');
    // Nothing else happens in that moment: a lease that fell due in it would be renewed before its unit is over.
    for (const other of this.processes) if (other !== this.processes[process]) other.standStill(MOMENT_MS);
  }

  async #crowd(process: number, key: Key): Promise<void> {
    const { state } = key;
    if (state.is !== 'completed') return;
    const expected = key.expected(state.request, process, 'rerun');
    for (let i = 0; i <= HOT_READS; i++) {
      same(
        verdictTold(await this.#begin(process, key, state.request, 'rerun')),
        expected,
        `the verdict on one of a crowd in process ${process}`,
      );
    }
  }

  async #goOn(process: number, ms: number): Promise<void> {
    if (this.#isAwake(process)) await this.processes[process]!.letPass(ms);
    else this.processes[process]!.standStill(ms);
  }

  #isAwake(process: number): boolean {
    return this.processes[process] !== undefined && !this.#stalled.has(process);
  }

  async #settle({ work, execution }: AtWork, outcome: Outcome): Promise<Settlement> {
    this.#atWork = this.#atWork.filter((other) => other.execution !== execution);
    return this.processes[work.process]!.engine.settle(execution, endingOf(work, outcome));
  }

  async #shutDown(process: number, inTime: boolean): Promise<void> {
    const { engine } = this.processes[process]!;
    const drained = engine.drain(1);
    const late = await this.#begin(process, this.#keys[0]!, 'A', 'rerun');
    same(verdictTold(late), { kind: 'refuse', code: 'IDEMPOTENCY_STORE_UNAVAILABLE' }, 'the verdict while it shuts down');
    if (inTime) {
      for (const one of this.#of(process))
        same(told(await this.#settle(one, 'created')), one.work.key.end(one.work, 'created'), `the end of ${one.work.id}`);
    } else await this.processes[process]!.letPass(1);
    await drained;
    await engine.close();
    await this.#replace(process);
  }

  async #replace(process: number): Promise<void> {
    await this.processes[process]!.die();
    this.processes[process] = await Process.start(this.database.url);
    this.#stalled.delete(process);
    const gone = this.#of(process);
    this.#atWork = this.#atWork.filter((one) => !gone.includes(one));
    const held = this.#keys.filter(({ state }) => state.is === 'running' && state.held && state.owner.process === process);
    for (const key of this.#keys) key.orphan(process);
    // The short lease of a claim whose transaction has ended with its process runs out.
    const ids = held.map(({ identity }) => identity.id);
    await this.database.pool.query(`update idempotency_records set locked_until = statement_timestamp() where id = any($1)`, [ids]);
  }

  async #pass(units: number): Promise<void> {
    for (let unit = 0; unit < units; unit++) await this.#passOne();
  }

  /** In the table, whose clock is the one that counts, and in the processes that are awake. Rows that are held can't be moved, and need not be. */
  async #passOne(): Promise<void> {
    await this.database.pool.query(
      `update idempotency_records as record
          set locked_until = locked_until - $1::interval, expires_at = expires_at - $1::interval, reap_after = reap_after - $1::interval
         from (select id from idempotency_records where id = any($2) for update skip locked) as free
        where record.id = free.id`,
      [`${UNIT_MS} milliseconds`, this.#keys.map(({ identity }) => identity.id)],
    );
    const awake = (process: number): boolean => this.#isAwake(process);
    for (const i of this.processes.keys()) await this.#goOn(i, UNIT_MS);
    for (const key of this.#keys) key.pass(awake);
    for (const { work } of this.#atWork) work.knows ||= awake(work.process) && !work.key.isOwnedBy(work);
  }

  async #compare(): Promise<void> {
    for (const key of this.#keys) {
      const summary = await this.processes[0]!.store.find(key.identity);
      const seen = summary && { state: summary.state, attempt: summary.attempt, steps: summary.steps };
      same(seen, key.seen, `the record of ${key.mode}`);
      const { rows } = await this.database.pool.query<{ n: number }>('select count(*)::int as n from business where id = $1', [
        key.identity.id,
      ]);
      same(rows[0]!.n, key.rows, `the rows of ${key.mode}`);
    }
    for (const { work, execution } of this.#atWork) same(execution.isLost, work.knows, `whether ${work.id} knows that it is superseded`);
  }

  async #inOne(index: number, act: (one: AtWork) => Promise<void>): Promise<void> {
    const one = this.#atWork[index % Math.max(1, this.#atWork.length)];
    if (one !== undefined) await act(one);
  }

  #of(process: number): readonly AtWork[] {
    return this.#atWork.filter(({ work }) => work.process === process);
  }

  #processOf(execution: OwnedExecution): Process {
    return this.processes[this.#atWork.find((one) => one.execution === execution)!.work.process]!;
  }
}

export const BUSINESS = 'create table business (id uuid not null)';

function insertRow(manager: EntityManager, { id }: Identity): Promise<unknown> {
  return manager.query('insert into business values ($1)', [id]);
}
