/**
 * Stands before every statement that goes to Postgres through the `pg` driver while a test wants it
 * to, TypeORM's included, and knows which connections are in a transaction. All that is known of the
 * driver's inside is here.
 */
import type { ModulesContainer } from '@nestjs/core';
import pg from 'pg';
import { DataSource } from 'typeorm';

/** What the driver does not declare. */
interface ClientInside {
  readonly connection?: {
    readonly stream: { destroy(): void };
    on(event: 'readyForQuery', listener: (message: { readonly status: string }) => void): void;
    off(event: 'readyForQuery', listener: (message: { readonly status: string }) => void): void;
  };
  on(event: 'error', listener: () => void): void;
  off(event: 'error', listener: () => void): void;
}

/** How the driver is called: with a text, a configuration, or an object that submits itself (a cursor, a stream). */
interface Sent {
  readonly text?: string;
  readonly callback?: unknown;
  submit?(connection: unknown): void;
  handleError?(error: Error, connection: unknown): void;
}

type Query = (this: ClientInside, ...sent: unknown[]) => unknown;

export interface StatementHook {
  /** Asked before each statement. An error refuses it: it is not sent. */
  before(text: string, client: object): Error | undefined;
}

/** Postgres' word for a connection that is in no transaction. */
const IDLE = 'I';

export class HookedDriver {
  readonly #restore: (() => void)[] = [];
  readonly #status = new WeakMap<object, string>();

  /** Every copy of the driver that the application's DataSources have loaded, and our own. */
  constructor(
    modules: ModulesContainer,
    private readonly hook: StatementHook,
  ) {
    for (const client of clientClasses(modules)) this.#hookInto(client.prototype as unknown as { query: Query });
  }

  /** Ends connections that are in a transaction, which Postgres then rolls back. The others have nothing to roll back. */
  cut(clients: Iterable<object>): void {
    for (const client of clients) {
      if ((this.#status.get(client) ?? IDLE) !== IDLE) (client as ClientInside).connection?.stream.destroy();
    }
  }

  unhook(): void {
    for (const restore of this.#restore.splice(0)) restore();
  }

  #hookInto(prototype: { query: Query }): void {
    const { query } = prototype;
    const ask = (sent: unknown, client: ClientInside): Error | undefined => {
      this.#watch(client);
      return this.hook.before(textOf(sent), client);
    };
    prototype.query = function (...sent) {
      const refusal = ask(sent[0], this);
      return refusal === undefined ? query.apply(this, sent) : refuse(sent, refusal, this);
    };
    this.#restore.push(() => {
      prototype.query = query;
    });
  }

  #watch(client: ClientInside): void {
    const { connection } = client;
    if (connection === undefined || this.#status.has(client)) return;
    this.#status.set(client, IDLE);
    const onReady = ({ status }: { readonly status: string }): void => void this.#status.set(client, status);
    connection.on('readyForQuery', onReady);
    client.on('error', ignored); // a connection that we cut is nobody's uncaught error
    this.#restore.push(() => {
      connection.off('readyForQuery', onReady);
      setImmediate(() => client.off('error', ignored));
    });
  }
}

function clientClasses(modules: ModulesContainer): Set<typeof pg.Client> {
  const classes = new Set([pg.Client]);
  for (const module of modules.values()) {
    for (const { instance } of module.providers.values()) {
      if (!(instance instanceof DataSource)) continue;
      const { postgres } = instance.driver as { readonly postgres?: { readonly Client?: typeof pg.Client } };
      if (postgres?.Client !== undefined) classes.add(postgres.Client);
    }
  }
  return classes;
}

function textOf(sent: unknown): string {
  if (typeof sent === 'string') return sent;
  const { text, cursor } = sent as Sent & { readonly cursor?: Sent };
  return text ?? cursor?.text ?? 'a cursor';
}

/** In the way in which the caller would hear of any other error of the connection. */
function refuse(sent: readonly unknown[], refusal: Error, client: ClientInside): unknown {
  const [first, last] = [sent[0] as Sent, sent.at(-1)];
  if (typeof first.submit === 'function') {
    process.nextTick(() => first.handleError?.(refusal, client.connection));
    return first;
  }
  const callback = typeof last === 'function' ? last : first.callback;
  if (typeof callback !== 'function') return Promise.reject(refusal);
  process.nextTick(callback as (error: Error) => void, refusal);
  return undefined;
}

function ignored(): void {}
