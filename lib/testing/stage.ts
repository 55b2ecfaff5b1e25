/**
 * Where trials take place: in the application as it is, with a hand on its HTTP server, on its store
 * of records and on its statements for as long as a test lasts.
 *
 * After a crash the module hears what a process hears that was away for longer than its lease: it is
 * superseded, whatever it writes. Nothing of that reaches the store, and so the record stays as the
 * crash has left it.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { IncomingMessage, Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { INestApplication } from '@nestjs/common';
import { ModulesContainer } from '@nestjs/core';
import type { Claim, Ownership } from '../contract/record.js';
import type { IdempotencyStore } from '../contract/store.js';
import type { CommitResult, RecordTransaction } from '../contract/transaction.js';
import type { ApplicationDatabase } from '../nest/module-store.js';
import type { ResolvedOptions } from '../nest/resolve-options.js';
import { APPLICATION, RESOLVED_OPTIONS, STORE } from '../nest/tokens.js';
import { tablesIn } from '../store/table-name.js';
import { HookedDriver } from './statement-hook.js';
import { SimulatedCrash, Trial } from './trial.js';

/** Whose code runs: the handler's, whose statements count, or the module's, whose do not. */
interface Surroundings {
  readonly trial: Trial;
  readonly of: 'handler' | 'module';
}

/** How a request gets to its trial: the server sees from which port it comes. */
interface Expected {
  readonly trial: Trial;
  /** Kept waiting here until all have come who are to be served at once. */
  readonly gate: Promise<void> | undefined;
  readonly onArrival: () => void;
}

const OCCUPIED = Symbol.for('nestjs-idempotency-pg.stage');

export class Stage {
  readonly #surroundings = new AsyncLocalStorage<Surroundings>();
  readonly #expected = new Map<number, Expected>();
  readonly #sockets = new Map<Trial, Socket>();
  readonly #clients = new Map<Trial, Set<object>>();
  readonly #byOwner = new Map<string, Trial>();
  readonly #restore: (() => unknown)[] = [];
  readonly #server: Server & { [OCCUPIED]?: true };
  readonly #store: IdempotencyStore;
  readonly #driver: HookedDriver;

  private constructor(private readonly app: INestApplication) {
    this.#server = app.getHttpServer() as Server;
    if (this.#server[OCCUPIED]) throw new Error('Another expectIdempotent() is at work on this application. Await one before the next.');
    this.#server[OCCUPIED] = true;
    this.#store = app.get<IdempotencyStore>(STORE, { strict: false });
    this.#driver = new HookedDriver(app.get(ModulesContainer), { before: (text, client) => this.#beforeStatement(text, client) });
    this.#hookServer();
    this.#hookStore();
  }

  static async open(app: INestApplication): Promise<Stage> {
    await app.init();
    const fastify = app.getHttpAdapter().getInstance() as { ready?: () => PromiseLike<unknown> };
    await fastify.ready?.();
    const stage = new Stage(app);
    await stage.#listen();
    return stage;
  }

  /** Leaves the application as it was. */
  async close(): Promise<void> {
    this.#driver.unhook();
    for (const restore of this.#restore.splice(0).reverse()) await restore();
    delete this.#server[OCCUPIED];
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get options(): ResolvedOptions {
    return this.app.get<ResolvedOptions>(RESOLVED_OPTIONS, { strict: false });
  }

  trial(crashAt?: number): Trial {
    return new Trial(crashAt, (trial) => this.#crash(trial));
  }

  /** The request that comes from that port is this trial's. */
  expect(port: number, expected: Expected): void {
    this.#expected.set(port, expected);
  }

  /** Lets the leases of a crashed execution pass. */
  async endLeases({ claims }: Trial): Promise<void> {
    for (const claim of claims) await this.#endLease(claim);
  }

  async #endLease({ id, owner }: Claim): Promise<void> {
    if ('endLease' in this.#store) {
      (this.#store as { endLease(ownership: Ownership): void }).endLease({ id, owner });
      return;
    }
    const { dataSource, pool } = this.app.get<ApplicationDatabase>(APPLICATION, { strict: false });
    const text = endLease(tablesIn(this.options.schema).records);
    await (dataSource === undefined ? pool?.query(text, [id, owner]) : dataSource.query(text, [id, owner]));
  }

  async #listen(): Promise<void> {
    if (this.#server.listening) return;
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject).listen(0, '127.0.0.1', () => resolve());
    });
    this.#restore.push(() => new Promise((resolve) => this.#server.close(resolve)));
  }

  #hookServer(): void {
    const server = this.#server;
    const before = server.emit.bind(server) as (event: string, ...args: unknown[]) => boolean;
    const emit = (event: string, ...args: unknown[]): boolean => {
      const [request] = args as [IncomingMessage];
      const expected = event === 'request' ? this.#take(request) : undefined;
      if (expected === undefined) return before(event, ...args);
      const serve = (): boolean => this.#surroundings.run({ trial: expected.trial, of: 'handler' }, () => before(event, ...args));
      expected.onArrival();
      if (expected.gate === undefined) return serve();
      void expected.gate.then(serve);
      return true;
    };
    this.#replace(server, { emit });
  }

  #take({ socket }: IncomingMessage): Expected | undefined {
    const port = socket.remotePort ?? 0;
    const expected = this.#expected.get(port);
    this.#expected.delete(port);
    if (expected !== undefined) this.#sockets.set(expected.trial, socket);
    return expected;
  }

  #beforeStatement(text: string, client: object): Error | undefined {
    const around = this.#surroundings.getStore();
    if (around === undefined) return undefined;
    const { trial } = around;
    const clients = this.#clients.get(trial) ?? new Set();
    this.#clients.set(trial, clients.add(client));
    return around.of === 'module' || trial.statement(text) ? undefined : new SimulatedCrash();
  }

  #crash(trial: Trial): void {
    this.#sockets.get(trial)?.destroy();
    this.#driver.cut(this.#clients.get(trial) ?? []);
  }

  #hookStore(): void {
    const store = this.#store;
    const before = {
      claim: store.claim.bind(store),
      takeOver: store.takeOver.bind(store),
      complete: store.complete.bind(store),
      seal: store.seal.bind(store),
      release: store.release.bind(store),
      recordStep: store.recordStep.bind(store),
      transaction: store.transaction.bind(store),
      renew: store.renew.bind(store),
      flush: store.flush.bind(store),
    };
    const onStage: Partial<IdempotencyStore> = {
      claim: async (wanted, withinMs) => {
        const result = await this.#module(() => before.claim(wanted, withinMs));
        if (result.kind === 'claimed') this.#owns(wanted);
        return result;
      },
      takeOver: async (wanted, from, withinMs) => {
        const result = await this.#module(() => before.takeOver(wanted, from, withinMs));
        if (result.kind === 'taken') this.#owns(wanted);
        return result;
      },
      complete: (owner, ...rest) => this.#settling(owner, 'the answer', SUPERSEDED, () => before.complete(owner, ...rest)),
      seal: (owner, ...rest) => this.#settling(owner, 'its end', SUPERSEDED, () => before.seal(owner, ...rest)),
      release: async (owner, ...rest) => {
        const released = this.#isDead(owner) ? 'absent' : await this.#module(() => before.release(owner, ...rest));
        this.#ended(owner);
        return released;
      },
      recordStep: (owner, step, ...rest) => this.#around(owner, stepOf(step), false, () => before.recordStep(owner, step, ...rest)),
      renew: (leases, ...rest) =>
        this.#module(() =>
          before.renew(
            leases.filter((lease) => !this.#isDead(lease)),
            ...rest,
          ),
        ),
      flush: async (owner, ...rest) => !this.#isDead(owner) && this.#module(() => before.flush(owner, ...rest)),
      transaction: async (owner, settings) => {
        if (this.#isDead(owner)) return undefined;
        const inner = await this.#module(() => before.transaction(owner, settings));
        return inner && this.#onStage(inner, owner, settings.holdsRecord);
      },
    };
    this.#replace(store, onStage);
  }

  /** Until the stage is closed. */
  #replace(target: object, methods: object): void {
    const standing = new Map(Object.keys(methods).map((name) => [name, Object.getOwnPropertyDescriptor(target, name)]));
    for (const [name, value] of Object.entries(methods)) Object.defineProperty(target, name, { configurable: true, writable: true, value });
    this.#restore.push(() => {
      for (const [name, descriptor] of standing) {
        if (descriptor === undefined) Reflect.deleteProperty(target, name);
        else Object.defineProperty(target, name, descriptor);
      }
    });
  }

  /** A transaction of the application's, whose last moments are points as well. */
  #onStage(inner: RecordTransaction, owner: Ownership, holdsRecord: boolean): RecordTransaction {
    const whole = holdsRecord ? 'the transaction' : 'the phase';
    const end = async (work: () => Promise<CommitResult>): Promise<CommitResult> => {
      const result = await this.#around(owner, whole, undefined, work, 'committed');
      if (result === undefined) await inner.rollBack();
      if (holdsRecord) this.#ended(owner);
      return result ?? { kind: 'refused', transient: false, cause: new SimulatedCrash() };
    };
    return {
      manager: inner.manager,
      client: inner.client,
      keepAlive: () => this.#module(() => inner.keepAlive()),
      probe: () => (this.#isDead(owner) ? Promise.reject(new SimulatedCrash()) : this.#module(() => inner.probe())),
      savepoint: (work) => this.#module(() => inner.savepoint(() => this.#handler(work))),
      write: (last) =>
        this.#before(last.ownership, `${last.kind === 'complete' ? 'the answer' : 'its end'} is written`, false, () => inner.write(last)),
      recordStep: (owned, step) => this.#before(owned, `${stepOf(step)} is written`, false, () => inner.recordStep(owned, step)),
      commit: (last) => end(() => inner.commit(last)),
      undo: (last) => end(() => inner.undo(last)),
      rollBack: async () => {
        await this.#module(() => inner.rollBack());
        if (holdsRecord) this.#ended(owner);
      },
    };
  }

  /** What follows the last write is no point of the handler's any more. */
  async #settling<T>(owner: Ownership, what: string, refused: T, write: () => Promise<T>): Promise<T> {
    const result = await this.#around(owner, what, refused, write);
    this.#ended(owner);
    return result;
  }

  async #around<T>(owner: Ownership, what: string, refused: T, write: () => Promise<T>, done = 'recorded'): Promise<T> {
    const result = await this.#before(owner, `${what} is ${done}`, refused, write);
    this.#byOwner.get(owner.owner)?.point(`after ${what} was ${done}`);
    return result;
  }

  async #before<T>(owner: Ownership, what: string, refused: T, write: () => Promise<T>): Promise<T> {
    const goesOn = this.#byOwner.get(owner.owner)?.point(`before ${what}`) ?? true;
    return goesOn ? this.#module(write) : refused;
  }

  #owns(claim: Claim): void {
    const trial = this.#surroundings.getStore()?.trial;
    if (trial === undefined) return;
    trial.claims.push(claim);
    this.#byOwner.set(claim.owner, trial);
  }

  #isDead({ owner }: Ownership): boolean {
    return this.#byOwner.get(owner)?.isDead ?? false;
  }

  #ended({ owner }: Ownership): void {
    const trial = this.#byOwner.get(owner);
    if (trial?.claim?.owner === owner) trial.end();
  }

  #module<T>(work: () => T): T {
    return this.#as('module', work);
  }

  #handler<T>(work: () => T): T {
    return this.#as('handler', work);
  }

  #as<T>(of: Surroundings['of'], work: () => T): T {
    const around = this.#surroundings.getStore();
    return around === undefined ? work() : this.#surroundings.run({ ...around, of }, work);
  }
}

const SUPERSEDED = { kind: 'superseded', record: undefined } as const;

function stepOf({ name }: { readonly name: string }): string {
  return `the result of step "${name}"`;
}

/** Waits for the backend of a connection that was cut, which may not have let go of the row yet. */
function endLease(records: string): string {
  return `
    update ${records}
       set locked_until = statement_timestamp() - interval '1 s'
     where id = $1::uuid and owner = $2::uuid and locked_until is not null`;
}
