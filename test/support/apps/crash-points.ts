/**
 * The points at which a request can be stopped: before and after each statement it sends, whichever
 * pool that goes through, and wherever its handler says `point(…)`. They are numbered from 1 in the
 * order in which the request passes them. A request that stands at one does nothing more until it is
 * told to go on; a process that is killed meanwhile dies with the request at exactly this point.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import pg from 'pg';

/** A request that stands at a point. */
export interface Stand {
  readonly journey: string;
  readonly point: string;
  /** Where the statement goes out or came in: the port of our end of the connection. */
  readonly port: number | undefined;
  goOn(): void;
}

/** Whoever stops requests, and lets them go on. */
export interface Stops {
  standsAt(stand: Stand): void;
  /** It has been answered, having passed all of these. */
  arrived(journey: string, points: readonly string[]): void;
}

/** Names the request. One without is stopped nowhere, and nobody is told of it. */
export const JOURNEY_HEADER = 'x-journey';
/** The number of the point at which it is to be stopped; none: nowhere. */
export const STOP_HEADER = 'x-stop-at';

interface Journey {
  pass(point: string, port?: number): Promise<void>;
}

const journeys = new AsyncLocalStorage<Journey>();

/** One await of a handler, as long as the shortest call to another system. */
export async function point(name: string): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  await journeys.getStore()?.pass(name);
}

/** What `work` sends is no part of the journey: it goes to another system. */
export function elsewhere<T>(work: () => T): T {
  return journeys.exit(work);
}

/** As a middleware: behind the body parser, which would lose the context. */
export function follow(stops: Stops) {
  return ({ headers }: IncomingMessage, response: ServerResponse, next: () => void): void => {
    const name = headers[JOURNEY_HEADER];
    if (typeof name !== 'string') return next();
    const passed: string[] = [];
    const stopAt = Number(headers[STOP_HEADER] ?? 0);
    response.once('finish', () => stops.arrived(name, passed));
    const journey: Journey = {
      async pass(point, port) {
        passed.push(point);
        if (passed.length === stopAt) await new Promise<void>((goOn) => stops.standsAt({ journey: name, point, port, goOn }));
      },
    };
    journeys.run(journey, next);
  };
}

/** With what `pg` does not declare. */
type Client = pg.Client & { readonly connection: { readonly stream: Socket } };
type Send = (this: Client, ...sent: unknown[]) => unknown;

/** When these are sent is the clock's matter, and not a step on a request's way. */
const BY_THE_CLOCK = new Set(['idempotency_renew', '-- still running']);

/** Of clients whose trip waits for a statement to go along: what their names are together. */
const waiting = new WeakMap<Client, string>();

/** From now on every statement of every client in this process is two points; what travels together is two points together. */
export function makeStatementsPoints(): void {
  const client = pg.Client.prototype as unknown as { query: Send };
  const { query } = client;
  client.query = function (...sent) {
    const journey = journeys.getStore();
    const name = nameOf(sent[0]);
    if (journey === undefined || BY_THE_CLOCK.has(name)) return query.apply(this, sent);
    const { stream } = this.connection;
    const { localPort } = stream;
    const waits = waiting.get(this);
    if (waits !== undefined) {
      waiting.delete(this);
      const together = `${waits} + ${name}`;
      void journey.pass(`before ${together}`, localPort).then(() => stream.uncork());
      return (query.apply(this, sent) as Promise<unknown>).then(async (answer) => {
        await journey.pass(`after ${together}`, localPort);
        return answer;
      });
    }
    if (isTrip(sent[0]) && sent[0].passenger !== undefined) {
      waiting.set(this, name);
      stream.cork(); // nothing leaves before it may
      return query.apply(this, sent);
    }
    const after = (): Promise<void> => journey.pass(`after ${name}`, localPort);
    const stopped = async (): Promise<unknown> => {
      await journey.pass(`before ${name}`, localPort);
      if (isTrip(sent[0])) return query.call(this, stoppedAfter(sent[0], after));
      const callback = sent.at(-1);
      if (typeof callback === 'function') return query.call(this, ...sent.slice(0, -1), calledAfter(callback as Callback, after));
      const answer = await (query.apply(this, sent) as Promise<unknown>);
      await after();
      return answer;
    };
    return stopped();
  };
}

type Callback = (error: unknown, answer?: unknown) => void;

function calledAfter(callback: Callback, after: () => Promise<void>): Callback {
  const late = async (answer: unknown): Promise<void> => {
    await after();
    callback(null, answer);
  };
  return (error, answer) => (error === null ? void late(answer) : callback(error));
}

/** Several statements in one: it submits itself, and hears of its answer by a callback. */
interface Trip {
  readonly names: readonly string[];
  /** What goes along. */
  readonly passenger?: object;
  callback: Callback;
}

function isTrip(statement: unknown): statement is Trip {
  return typeof statement === 'object' && statement !== null && 'names' in statement;
}

function stoppedAfter(trip: Trip, after: () => Promise<void>): Trip {
  const { callback } = trip;
  trip.callback = calledAfter(callback, after);
  return trip;
}

/** A prepared statement's name, or the text's beginning. */
function nameOf(statement: unknown): string {
  if (isTrip(statement)) return statement.names.join(' + ');
  if (typeof statement === 'string') return statement.trim().replaceAll(/\s+/g, ' ').slice(0, 40).toLowerCase();
  const { name, text } = statement as { readonly name?: string; readonly text?: string };
  return name ?? nameOf(text ?? '');
}
