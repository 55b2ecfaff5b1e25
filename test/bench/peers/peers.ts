/**
 * The others: each as its own manual sets it up, in the best configuration that it has, beside the same
 * framework and handler without it. What each keeps, and what it does not do, is told with its name,
 * because a ratio alone says nothing of it. It does not know how anything is measured.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import type { Platform, Route } from '../app-protocol.js';
import { BARE } from '../contestants.js';
import type { Contestant } from '../contestants.js';

export interface Peer extends Contestant {
  /** Where the package.json of what it needs is, to be installed before it is started. None: it runs on the repository's own. */
  readonly folder?: string;
  /** In sentences: versions, what it keeps and where, and what was seen of it that a fair reading of its figures needs. */
  readonly about: string;
}

const ROUTES: readonly Route[] = ['/orders', '/slow', '/quiet'];

export function peers(platform: Platform): readonly Peer[] {
  return [...onNest10(platform), ...(platform === 'express' ? onExpress4() : []), naive(platform)];
}

function onNest10(platform: Platform): Peer[] {
  const { folder, entry, version } = packagesIn('nest-10');
  const nest = `Nest ${version('@nestjs/core')}`;
  const bare: Peer = {
    name: 'bare, Nest 10',
    platform,
    folder,
    entry: entry('bare.js'),
    routes: ROUTES,
    guards: false,
    about: `${nest}, the newest major that node-idempotency allows.`,
  };
  const guarded = {
    ...bare,
    baseline: bare.name,
    entry: entry('node-idempotency.js'),
    guards: true,
    tellsReplays: true,
  };
  const nodeIdempotency = `@node-idempotency/nestjs ${version('@node-idempotency/nestjs')} on ${nest}`;
  return [
    bare,
    {
      ...guarded,
      name: 'node-idempotency, memory',
      env: { BENCH_STORAGE: 'memory' },
      about:
        `${nodeIdempotency}, in the memory of one process: not durable, two processes share nothing, and what has expired stays in memory until it is asked for. ` +
        'An answer of 500 is kept like any other.',
    },
    {
      ...guarded,
      name: 'node-idempotency, Redis',
      env: { BENCH_STORAGE: 'redis' },
      redis: true,
      about:
        `${nodeIdempotency}, redis ${version('redis')}: as durable as that Redis. ` +
        'After a crash in the handler its key answers 409 until the retention is over, a day by default. An answer of 500 is kept like any other.',
    },
  ];
}

const REPLAYS_A_VALUE = "It replays a function's value; status and headers are the application's.";

function onExpress4(): Peer[] {
  const { folder, entry, version } = packagesIn('express-4');
  const express = `Express ${version('express')}`;
  const bare: Peer = {
    name: 'bare, Express 4',
    platform: 'express',
    folder,
    entry: entry('bare.js'),
    routes: ROUTES,
    guards: false,
    about: `${express}.`,
  };
  const guarded = { ...bare, baseline: bare.name, guards: true };
  const powertools = `@aws-lambda-powertools/idempotency ${version('@aws-lambda-powertools/idempotency')} on ${express}`;
  return [
    bare,
    {
      ...guarded,
      name: 'express-idempotency, Redis',
      entry: entry('express-idempotency.js'),
      redis: true,
      about:
        `express-idempotency ${version('express-idempotency')} with express-idempotency-redis-adapter ${version('express-idempotency-redis-adapter')} ` +
        `on ${express}: as durable as that Redis. It reads, then writes: of 100 requests that come together between 1 and 100 run. ` +
        'The answer leaves before its record is written. After a crash in the handler its key answers 409 until the retention is over, a day by default.',
    },
    {
      ...guarded,
      name: 'Powertools, memory',
      entry: entry('powertools.js'),
      env: { BENCH_STORAGE: 'memory' },
      about:
        `${powertools}, with a store of our own of a few lines in the memory of one process, the least that there can be: not durable. ` +
        REPLAYS_A_VALUE,
    },
    {
      ...guarded,
      name: 'Powertools, Redis',
      entry: entry('powertools.js'),
      env: { BENCH_STORAGE: 'redis' },
      redis: true,
      about:
        `${powertools}, with its own layer for Redis and its cache of 1000 answers in the process: as durable as that Redis. ` +
        `${REPLAYS_A_VALUE} This layer does not keep what bodies are compared by: the same key with another body gets the first answer.`,
    },
  ];
}

function naive(platform: Platform): Peer {
  return {
    name: 'naive, Postgres',
    baseline: BARE,
    platform,
    entry: packagesIn('nest-12').entry('naive.js'),
    routes: ROUTES,
    guards: true,
    about:
      'Select, run, insert on Nest 12, each on its own: durable, but of 100 requests that come together between 3 and 100 run, ' +
      'and a retry after a crash runs again, whether or not the effect was there already. Bodies are not compared.',
    async prepare(databaseUrl) {
      const client = new pg.Client({ connectionString: databaseUrl });
      await client.connect();
      try {
        await client.query('create table naive_answers (key text primary key, answer text not null)');
      } finally {
        await client.end();
      }
    },
  };
}

/** Versions are those of the lock file: what `npm ci` installs. */
function packagesIn(name: string) {
  const folder = fileURLToPath(new URL(`./${name}/`, import.meta.url));
  return {
    folder,
    entry: (file: string): string => `${folder}${file}`,
    version(dependency: string): string {
      const { packages } = JSON.parse(readFileSync(`${folder}package-lock.json`, 'utf8')) as Lock;
      const found = packages[`node_modules/${dependency}`]?.version;
      if (found === undefined) throw new Error(`${dependency} is not in ${folder}package-lock.json.`);
      return found;
    },
  };
}

interface Lock {
  readonly packages: Readonly<Record<string, { readonly version?: string }>>;
}
