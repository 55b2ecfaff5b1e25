/** One request at a time: how often it goes to Postgres and back, counted on the line, and how long it takes. */
import { bare, ours } from '../contestants.js';
import type { Contestant } from '../contestants.js';
import type { Route } from '../app-protocol.js';
import { startTcpProxy } from '../../support/tcp-proxy.js';
import { Connections } from '../load/connections.js';
import type { Traffic, Volley } from '../load/connections.js';
import { Ledger } from '../load/ledger.js';
import type { KeptAnswer } from '../load/ledger.js';
import { firsts, recorded, replaysOnce } from '../load/traffic.js';
import type { Fault, Table, Verdict } from '../results.js';
import { percentile } from '../statistics.js';
import { atMost } from '../verdicts.js';
import type { Bench, Workload } from '../workload.js';

const TITLE = 'one lonely request, Fastify';
/** Until every connection is open and every statement prepared. */
const WARM_UP = 60;
const COUNTED = 100;
const TIMED = 500;

interface Lonely {
  readonly trips: number;
  readonly statements: number;
  readonly p50Ms: number;
}

export const lonely: Workload = {
  name: 'lonely',
  about: 'one request at a time, and its round trips to Postgres',
  async run(bench) {
    const rows: Table['rows'][number][] = [];
    const faults: Fault[] = [];
    const verdicts: Verdict[] = [];
    if (!bench.wants(TITLE)) return { workload: 'lonely', races: [], tables: [], verdicts, faults };
    const scenes = [
      { name: 'plain', route: '/orders', added: 2 },
      { name: 'atomic', route: '/orders-atomic', added: 2 },
    ] as const;
    for (const { name, route, added } of scenes) {
      const handler = await measure(bench, bare(bench.builds[0], 'fastify'), route, 'first', faults);
      rows.push(row(`bare, ${name}`, handler));
      for (const [nth, build] of bench.builds.entries()) {
        const contestant = ours(build, 'fastify');
        const own = await measure(bench, contestant, route, 'first', faults);
        rows.push(
          row(`${contestant.name}, ${name}`, own),
          row(`${contestant.name}, ${name}, replay`, await measure(bench, contestant, route, 'replay', faults)),
        );
        if (nth === 0) verdicts.push(atMost(`${TITLE}, ${name}: round trips added`, added, own.trips - handler.trips, ''));
      }
    }
    const table = { title: TITLE, head: ['contestant', 'round trips', 'statements', 'p50 ms'], rows };
    return { workload: 'lonely', races: [], tables: [table], verdicts, faults };
  },
};

function row(name: string, { trips, statements, p50Ms }: Lonely): Table['rows'][number] {
  return [name, trips, statements, p50Ms];
}

/** Counted by way of a proxy, and timed without one. */
async function measure(bench: Bench, contestant: Contestant, route: Route, kind: 'first' | 'replay', faults: Fault[]): Promise<Lonely> {
  const { entrants } = bench;
  const entrant = await entrants.enter(contestant, route);
  const proxy = await startTcpProxy(entrant.database.url);
  const proxied = await entrants.start(contestant, proxy.url);
  const note = ({ faults: found }: Volley): void => void faults.push(...found.map((fault) => ({ contestant: contestant.name, fault })));
  try {
    const { ledger } = entrant;
    const counted = await Connections.open(proxied.port, 1);
    note(await counted.fire(firsts(route, ledger, WARM_UP)));
    const asked = await trafficOf(kind, route, counted, contestant, ledger, COUNTED);
    const [trips, statements] = [proxy.trips.length, proxy.statements.length];
    note(await counted.fire(asked));
    const found = { trips: (proxy.trips.length - trips) / COUNTED, statements: (proxy.statements.length - statements) / COUNTED };
    counted.close();

    const timed = await Connections.open(entrant.app.port, 1);
    await timed.fire(firsts(route, ledger, WARM_UP));
    const volley = await timed.fire(await trafficOf(kind, route, timed, contestant, ledger, TIMED));
    note(volley);
    timed.close();
    return { ...found, p50Ms: percentile(volley.latenciesMs, 0.5) };
  } finally {
    await proxied.stop();
    await proxy.close();
    await entrants.leave();
  }
}

async function trafficOf(
  kind: 'first' | 'replay',
  route: Route,
  clients: Connections,
  contestant: Contestant,
  ledger: Ledger,
  count: number,
): Promise<Traffic> {
  if (kind === 'first') return firsts(route, ledger, count);
  const answers = new Map<string, KeptAnswer>();
  await clients.fire(recorded(route, ledger, answers, count));
  return replaysOnce(route, answers, contestant, ledger);
}
