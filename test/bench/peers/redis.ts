/**
 * A Redis for the contestants that need one: the one that BENCH_REDIS_URL names, or one of this
 * machine's own, started on a free port, which keeps nothing on the disk and ends with this process.
 * Where there is neither, those contestants are left out, and the caller says so.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { createInterface } from 'node:readline';

export interface RunningRedis {
  readonly url: string;
  /** Such as `7.0.15`. */
  readonly version: string;
  /** What becomes of what it is given, as one sentence for people. */
  readonly durability: string;
  stop(): Promise<void>;
}

export async function startRedis(): Promise<RunningRedis | undefined> {
  const named = process.env['BENCH_REDIS_URL'];
  if (named) {
    const durability = 'It is not ours: what it keeps on the disk, and when, is as it is set up.';
    return { url: named, version: await versionOf(named), durability, stop: () => Promise.resolve() };
  }
  const port = await freePort();
  const server = await launch(port);
  if (server === undefined) return undefined;
  const url = `redis://127.0.0.1:${port}`;
  const durability = 'It keeps everything in memory and nothing on the disk: a restart of it forgets every key.';
  return { url, version: await versionOf(url), durability, stop: () => end(server) };
}

/** Undefined where no redis-server is on the PATH. */
async function launch(port: number): Promise<ChildProcess | undefined> {
  const memoryOnly = ['--save', '', '--appendonly', 'no', '--dir', tmpdir()];
  const server = spawn('redis-server', ['--bind', '127.0.0.1', '--port', String(port), ...memoryOnly], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const lines: string[] = [];
  const ready = new Promise<boolean>((settle, fail) => {
    server.once('error', (error: NodeJS.ErrnoException) => (error.code === 'ENOENT' ? settle(false) : fail(error)));
    server.once('close', (code) => fail(new Error(`redis-server ended (${code}) before it was ready:\n${lines.join('\n')}`)));
    createInterface({ input: server.stdout }).on('line', (line) => {
      lines.push(line);
      if (/Ready to accept connections/.test(line)) settle(true);
    });
  });
  if (!(await ready)) return undefined;
  process.once('exit', () => server.kill('SIGKILL')); // however this process ends by itself
  return server;
}

async function end(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  server.kill();
  await once(server, 'exit');
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const address = probe.address();
  probe.close();
  await once(probe, 'close');
  if (address === null || typeof address === 'string') throw new Error('This machine gave no port.');
  return address.port;
}

/** What the server tells of itself. Redis takes commands as plain words, too, so this needs no client. */
async function versionOf(url: string): Promise<string> {
  const { protocol, hostname, port, username, password } = new URL(url);
  if (protocol !== 'redis:') throw new Error('BENCH_REDIS_URL must begin with redis://. The benchmark speaks no TLS.');
  const login = password ? `AUTH ${username ? `${decodeURIComponent(username)} ` : ''}${decodeURIComponent(password)}\r\n` : '';
  const socket = connect(Number(port || 6379), hostname).setEncoding('utf8');
  socket.write(`${login}INFO server\r\nQUIT\r\n`);
  let told = '';
  for await (const part of socket) told += String(part);
  const version = /^redis_version:(\S+)/m.exec(told)?.[1];
  if (version === undefined)
    throw new Error('What BENCH_REDIS_URL names does not tell its version. Is it a Redis, and is the password right?');
  return version;
}
