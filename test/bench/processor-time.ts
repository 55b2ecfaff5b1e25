/**
 * How much processor time a Postgres server and a Redis have used. Postgres: all processes below its
 * postmaster, those that are gone included, as Linux counts them; on other systems, or where the
 * server is on another machine, it can't be told. Redis tells it itself.
 */
import { readFile, readdir } from 'node:fs/promises';
import { connect } from 'node:net';
import { once } from 'node:events';
import type { Server } from './server.js';

/** Microseconds since the server began; `undefined`: it can't be told. */
export type ProcessorTime = () => Promise<number | undefined>;

/** USER_HZ, which is 100 on every Linux that Node runs on. */
const TICK_US = 10_000;

export async function postgresTime(server: Server): Promise<ProcessorTime> {
  const postmaster = await postmasterOf(server);
  return async () =>
    postmaster === undefined
      ? undefined
      : sum(await Promise.all((await familyOf(postmaster)).map(timeOf))) + (await timeOfTheGone(postmaster));
}

/** The parent of a backend, if that backend is a process of this machine. */
async function postmasterOf(server: Server): Promise<number | undefined> {
  const backend = await server.hold('select pg_backend_pid() as pid', async ([row]) => statOf((row as { readonly pid: number }).pid));
  return backend?.name === 'postgres' ? backend.parent : undefined;
}

async function familyOf(postmaster: number): Promise<number[]> {
  const processes = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const stats = await Promise.all(processes.map(async (pid) => ({ pid, stat: await statOf(pid) })));
  return stats.filter(({ pid, stat }) => pid === postmaster || stat?.parent === postmaster).map(({ pid }) => pid);
}

/** By the scheduler's own clock where there is one: it counts nanoseconds. */
async function timeOf(pid: number): Promise<number> {
  const [nanoseconds] = (await read(pid, 'schedstat'))?.split(' ') ?? [];
  if (nanoseconds !== undefined) return Number(nanoseconds) / 1000;
  const stat = await statOf(pid);
  return stat === undefined ? 0 : stat.ownTicks * TICK_US;
}

async function timeOfTheGone(postmaster: number): Promise<number> {
  return ((await statOf(postmaster))?.childrensTicks ?? 0) * TICK_US;
}

interface Stat {
  readonly name: string;
  readonly parent: number;
  readonly ownTicks: number;
  readonly childrensTicks: number;
}

/** Fields of proc(5), counted from the one behind the name, which may have spaces in it. */
async function statOf(pid: number): Promise<Stat | undefined> {
  const line = await read(pid, 'stat');
  if (line === undefined) return undefined;
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
  const at = (field: number): number => Number(fields[field - 3]);
  return {
    name: line.slice(line.indexOf('(') + 1, line.lastIndexOf(')')),
    parent: at(4),
    ownTicks: at(14) + at(15),
    childrensTicks: at(16) + at(17),
  };
}

async function read(pid: number, file: 'stat' | 'schedstat'): Promise<string | undefined> {
  try {
    return await readFile(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return undefined; // gone by now, or no Linux
  }
}

export function redisTime(url: string): ProcessorTime {
  const { hostname, port } = new URL(url);
  return async () => {
    const socket = connect(Number(port), hostname);
    try {
      await once(socket, 'connect');
      socket.write('INFO cpu\r\n');
      let told = '';
      while (!/used_cpu_user:[\d.]+\r\n/.test(told)) told += String((await once(socket, 'data'))[0]);
      return sum(['used_cpu_sys', 'used_cpu_user'].map((name) => Number(new RegExp(`${name}:([\\d.]+)`).exec(told)?.[1]))) * 1e6;
    } finally {
      socket.destroy();
    }
  };
}

function sum(times: readonly number[]): number {
  return times.reduce((total, time) => total + time, 0);
}
