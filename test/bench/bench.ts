/**
 * `npm run bench`: measures the library beside the bare handler and the peers, and says in tables, a
 * JSON file and a plot what it found. It fails where an answer of ours was wrong; a goal that is not
 * met is told, and no failure. See README.md beside it.
 */
import { Builds } from './builds.js';
import type { Build } from './contestants.js';
import { Entrants } from './entrants.js';
import { HELP, readFlags } from './flags.js';
import type { Flags } from './flags.js';
import { machine } from './machine.js';
import { install } from './peers/install.js';
import { peers as peersOn } from './peers/peers.js';
import type { Peer } from './peers/peers.js';
import { startRedis } from './peers/redis.js';
import type { RunningRedis } from './peers/redis.js';
import { postgresTime, redisTime } from './processor-time.js';
import { Racecourse } from './race.js';
import { profilesOf, writeFiles } from './report/files.js';
import { markdown } from './report/table.js';
import type { Findings } from './results.js';
import { Server } from './server.js';
import { isOurs } from './workload.js';
import type { Bench, Workload } from './workload.js';
import { first } from './workloads/first.js';
import { growth } from './workloads/growth.js';
import { large } from './workloads/large.js';
import { lonely } from './workloads/lonely.js';
import { mixed } from './workloads/mixed.js';
import { reaper } from './workloads/reaper.js';
import { replay } from './workloads/replay.js';
import { storm } from './workloads/storm.js';
import { unkeyed } from './workloads/unkeyed.js';

const WORKLOADS: readonly Workload[] = [first, replay, mixed, storm, large, lonely, unkeyed, growth, reaper];

/** Progress goes beside the report, which may be piped into a file. */
const say = (line: string): void => console.error(line);

/** Whether every answer of ours was right. */
async function main(flags: Flags): Promise<boolean> {
  const startedAt = new Date().toISOString();
  const workloads = chosen(flags.only);
  const made = await Builds.begin();
  let server: Server | undefined;
  let redis: RunningRedis | undefined;
  try {
    const builds: [Build, ...Build[]] = [await made.make()];
    for (const path of flags.libraries) builds.push(await made.make(path));
    redis = flags.peers ? await startRedis() : undefined;
    const peers = flags.peers ? await readyPeers(redis) : [];
    server = await Server.start();
    const findings = await measure(flags, workloads, server, builds, peers, redis);
    const report = {
      label: flags.label,
      startedAt,
      machine: machine(),
      postgres: await server.settings(),
      ...(redis === undefined ? {} : { redis: `Redis ${redis.version}. ${redis.durability}` }),
      peers: Object.fromEntries(peers.map(({ name, about }) => [name, about])),
      pace: flags.pace,
      findings,
    };
    const tables = markdown(report);
    console.log(tables);
    say(`Written: ${(await writeFiles(report, tables)).join(', ')}`);
    return !findings.some(({ faults }) => faults.some(({ contestant }) => isOurs(contestant)));
  } finally {
    await server?.stop();
    await redis?.stop();
    await made.remove();
  }
}

async function readyPeers(redis: RunningRedis | undefined): Promise<Peer[]> {
  const all = (['fastify', 'express'] as const).flatMap(peersOn);
  const ready = all.filter(({ redis: needed }) => redis !== undefined || needed !== true);
  if (ready.length < all.length) say('There is no redis-server on the PATH, and no BENCH_REDIS_URL: peers that need a Redis are left out.');
  for (const folder of new Set(ready.flatMap((peer) => peer.folder ?? []))) await install(folder);
  return ready;
}

async function measure(
  { pace, sizes, match, label, profile }: Flags,
  workloads: readonly Workload[],
  server: Server,
  builds: readonly [Build, ...Build[]],
  peers: readonly Peer[],
  redis: RunningRedis | undefined,
): Promise<Findings[]> {
  const meters = { postgres: await postgresTime(server), redis: redis === undefined ? async () => undefined : redisTime(redis.url) };
  const bench: Bench = {
    server,
    entrants: new Entrants(server, builds[0], redis?.url, profile ? profilesOf(label) : undefined),
    course: new Racecourse(pace, meters, say),
    builds,
    peers,
    sizes,
    wants: (title) => title.includes(match),
    say,
  };
  const findings: Findings[] = [];
  for (const workload of workloads) {
    say(`${workload.name}: ${workload.about}`);
    findings.push(await workload.run(bench));
  }
  return findings;
}

function chosen(names: readonly string[]): readonly Workload[] {
  const unknown = names.filter((name) => !WORKLOADS.some((workload) => workload.name === name));
  if (unknown.length > 0)
    throw new TypeError(`There is no workload ${unknown.join(', ')}; there are ${WORKLOADS.map(({ name }) => name).join(', ')}.`);
  return names.length === 0 ? WORKLOADS : WORKLOADS.filter(({ name }) => names.includes(name));
}

const flags = readFlags(process.argv.slice(2));
if (flags.help) console.log(HELP);
else process.exitCode = (await main(flags)) ? 0 : 1;
