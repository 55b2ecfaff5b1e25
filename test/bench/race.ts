/**
 * Lets contestants do the same, one after another in every round, each at another place in the next
 * one: what a neighbour on the machine does then meets all of them. A contestant is warm before its
 * first round, and what it answered is checked against its database when the rounds are over.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { Connections } from './load/connections.js';
import type { Traffic } from './load/connections.js';
import { replaysOnce } from './load/traffic.js';
import type { Entrant } from './entrants.js';
import { REPORTS_EVERY_MS, countsSoFar, walPosition } from './postgres-counts.js';
import type { ProcessorTime } from './processor-time.js';
import type { Counts, Fault, Race, Round } from './results.js';
import { percentile } from './statistics.js';

export interface Pace {
  readonly rounds: number;
  /** Of one contestant in one round. */
  readonly seconds: number;
  /** Before the first round: so long, and so many requests that the compiler has done its work; but no longer than five times that. */
  readonly warmUpSeconds: number;
  readonly warmUpRequests: number;
}

/** Both servers' clocks; a contestant that needs no Redis uses none of its time. */
export interface Meters {
  readonly postgres: ProcessorTime;
  readonly redis: ProcessorTime;
}

export interface Runner {
  readonly entrant: Entrant;
  readonly traffic: Traffic;
  readonly beforeRound?: () => Promise<void>;
  readonly afterRound?: () => Promise<void>;
}

/**
 * Where a contestant has been idle for the others' rounds: until its code and its pages are back in the caches. After
 * some seconds without work V8 collects garbage more thoroughly, and with the last objects of a kind goes the machine code
 * that was made for it: to make that again takes a second or more, and twice the processor time for as long.
 */
const LEAD_IN_SECONDS = 2;

/** What was counted before is reported by then. */
const FLUSH_SECONDS = 0.15;

export class Racecourse {
  constructor(
    readonly pace: Pace,
    private readonly meters: Meters,
    private readonly say: (line: string) => void,
  ) {}

  async race(
    title: string,
    connections: number,
    runners: readonly Runner[],
  ): Promise<{ readonly race: Race; readonly faults: readonly Fault[] }> {
    const faults = new Map<string, Fault>();
    const note = (contestant: string, found: readonly string[]): void => {
      for (const fault of found) faults.set(`${contestant} ${fault}`, { contestant, fault });
    };
    for (const runner of runners) {
      await runner.beforeRound?.();
      note(runner.entrant.contestant.name, await this.#warmUp(runner, connections));
    }

    const rounds = new Map<Runner, Round[]>(runners.map((runner) => [runner, []]));
    for (let turn = 0; turn < this.pace.rounds; turn += 1) {
      for (const runner of rotated(runners, turn)) {
        await runner.beforeRound?.();
        const { round, faults: found } = await this.#round(runner, connections);
        await runner.afterRound?.();
        rounds.get(runner)?.push(round);
        note(runner.entrant.contestant.name, found);
      }
      this.say(
        `${title}, round ${turn + 1} of ${this.pace.rounds}: ${runners.map((runner) => speed(runner, rounds.get(runner)?.at(-1))).join(', ')}`,
      );
    }

    const lines: Race['lines'][number][] = [];
    for (const runner of runners) {
      const { name, baseline } = runner.entrant.contestant;
      await runner.beforeRound?.();
      const counts = await this.#count(runner, connections);
      note(name, await checkOrders(runner.entrant));
      lines.push({ contestant: name, ...(baseline === undefined ? {} : { baseline }), rounds: rounds.get(runner) ?? [], counts });
    }
    return { race: { title, connections, lines }, faults: [...faults.values()] };
  }

  async #round({ entrant, traffic }: Runner, connections: number): Promise<{ readonly round: Round; readonly faults: readonly string[] }> {
    const { app, database } = entrant;
    const clients = await Connections.open(app.port, connections);
    const leadIn = await clients.fire(traffic, LEAD_IN_SECONDS);
    const walBefore = await walPosition(database);
    const before = await this.#times(entrant);
    const volley = await clients.fire(traffic, this.pace.seconds);
    const after = await this.#times(entrant);
    const walBytes = (await walPosition(database)) - walBefore;
    clients.close();

    const each = (name: keyof Times): number => ((after[name] ?? NaN) - (before[name] ?? NaN)) / volley.requests;
    const round: Round = {
      requests: volley.requests,
      perSecond: volley.requests / volley.seconds,
      p50Ms: percentile(volley.latenciesMs, 0.5),
      p99Ms: percentile(volley.latenciesMs, 0.99),
      cpuUs: {
        app: each('app'),
        ...(after.postgres === undefined ? {} : { postgres: each('postgres') }),
        ...(after.redis === undefined ? {} : { redis: each('redis') }),
        client: each('client'),
      },
      walBytes: walBytes / volley.requests,
      statuses: volley.statuses,
      replays: volley.replays,
    };
    return { round, faults: [...leadIn.faults, ...volley.faults] };
  }

  async #count({ entrant, traffic }: Runner, connections: number): Promise<Counts> {
    const clients = await Connections.open(entrant.app.port, connections);
    await clients.fire(traffic, LEAD_IN_SECONDS);
    const before = await countsSoFar(entrant.database);
    const { requests } = await clients.fire(traffic, this.pace.seconds / 2);
    await pause(REPORTS_EVERY_MS * 1.1);
    const { requests: more } = await clients.fire(traffic, FLUSH_SECONDS);
    const after = await countsSoFar(entrant.database);
    clients.close();
    const each = (name: keyof Counts): number => ((after[name] ?? NaN) - (before[name] ?? NaN)) / (requests + more);
    return {
      ...(after.fsyncs === null ? {} : { fsyncs: each('fsyncs') }),
      fsyncsInAll: each('fsyncsInAll'),
      transactions: each('transactions'),
      walRecords: each('walRecords'),
      fullPageImages: each('fullPageImages'),
    };
  }

  async #warmUp({ entrant, traffic }: Runner, connections: number): Promise<string[]> {
    const { warmUpSeconds, warmUpRequests } = this.pace;
    const clients = await Connections.open(entrant.app.port, connections);
    const faults: string[] = [];
    for (let [requests, seconds] = [0, 0]; seconds < warmUpSeconds || (requests < warmUpRequests && seconds < 5 * warmUpSeconds);) {
      const volley = await clients.fire(traffic, warmUpSeconds / 2);
      requests += volley.requests;
      seconds += volley.seconds;
      faults.push(...volley.faults);
    }
    clients.close();
    return faults;
  }

  async #times({ app, contestant }: Entrant): Promise<Times> {
    const { cpu } = await app.usage();
    const client = process.cpuUsage();
    return {
      app: cpu.user + cpu.system,
      client: client.user + client.system,
      postgres: await this.meters.postgres(),
      redis: contestant.redis === true ? await this.meters.redis() : undefined,
    };
  }
}

interface Times {
  readonly app: number;
  readonly client: number;
  readonly postgres: number | undefined;
  readonly redis: number | undefined;
}

/** Every order that was answered is there, once; and some of the first answers are asked again. */
async function checkOrders(entrant: Entrant): Promise<string[]> {
  const { contestant, app, database, ledger } = entrant;
  const { rows, keys } = await database.orders();
  const found: string[] = [];
  if (rows !== ledger.placed) found.push(`${ledger.placed} orders were answered, and ${rows} are in the table`);
  if (!contestant.guards) return found;
  if (keys !== rows) found.push(`${rows} orders have only ${keys} different keys`);
  if (ledger.sample.size === 0) return found;
  const clients = await Connections.open(app.port, 8);
  const { faults } = await clients.fire(replaysOnce(entrant.route, ledger.sample, contestant, ledger));
  clients.close();
  return [...found, ...faults];
}

function rotated<T>(items: readonly T[], by: number): T[] {
  const start = by % items.length;
  return [...items.slice(start), ...items.slice(0, start)];
}

function speed({ entrant }: Runner, round: Round | undefined): string {
  return `${entrant.contestant.name} ${Math.round(round?.perSecond ?? 0)}/s`;
}
