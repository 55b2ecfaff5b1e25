/** What goes wrong before anything is done: told with its remedy and its exit code, and never with a secret. */
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { createServer, type Server } from 'node:net';
import type { AddressInfo } from 'node:net';
import { runCommand, type Ended } from '../support/command.js';
import { createTestDatabase, migrate, type TestDatabase } from '../support/database.js';

jest.setTimeout(60_000);

let database: TestDatabase;
/** Accepts, and never says a word. */
let silent: Server;
beforeAll(async () => {
  database = await createTestDatabase();
  await migrate(database);
  silent = createServer(() => undefined).listen(0, '127.0.0.1');
});
afterAll(async () => {
  silent.close();
  await database.drop();
});

const PASSWORD = 'tops3cret%2Fhush'; // as it stands in a URL; "tops3cret/hush" for Postgres
const SECRETS = ['tops3cret', 'hush'];

const withPassword = (url: string): string =>
  Object.assign(new URL(url), { username: 'nobody', password: decodeURIComponent(PASSWORD) }).href;

function expectNoSecret({ stdout, stderr }: Ended): void {
  for (const secret of SECRETS) expect(stdout + stderr).not.toContain(secret);
}

describe('a failure', () => {
  it.each<[why: string, url: () => string, code: number, told: RegExp]>([
    [
      'a server that is not there',
      () => `postgres://nobody:${PASSWORD}@127.0.0.1:1/shop`,
      1,
      /127\.0\.0\.1:1 \(database shop, user nobody\) refuses connections/,
    ],
    ['a host that has no address', () => `postgres://nobody:${PASSWORD}@nowhere.invalid/shop`, 1, /nowhere\.invalid:5432 .*has no address/],
    ['a database that is not there', () => `${database.url}_gone`, 1, /has no such database/],
    ['a role that is not there', () => withPassword(database.url), 1, /does not let this user in.*role "nobody" does not exist/],
    [
      'a server that does not answer',
      () => `postgres://nobody:${PASSWORD}@127.0.0.1:${(silent.address() as AddressInfo).port}/shop`,
      1,
      /did not answer in time\. Wait longer with --timeout/,
    ],
    ['a server without TLS', () => `${database.url}?sslmode=verify-full`, 1, /does not speak TLS/],
    ['another kind of database', () => `mysql://nobody:${PASSWORD}@127.0.0.1/shop`, 2, /does not begin with postgres:\/\//],
    ['a password that is not encoded', () => 'postgres://nobody:12/tops3cret@127.0.0.1/shop', 2, /@ behind its host.*percent-encoded/],
    ['a password that makes no URL', () => 'postgres://nobody:tops3cret#x@127.0.0.1/shop', 2, /percent-encoded/],
    ['a certificate that is not there', () => `postgres://nobody:${PASSWORD}@127.0.0.1/shop?sslrootcert=/no/ca.pem`, 2, /\/no\/ca\.pem/],
    ['an empty URL', () => '', 2, /--url is empty/],
  ])('tells of %s, from every command that needs it', async (_, url, code, told) => {
    const args = ['--url', url(), '--timeout', '2s'];
    const all = await Promise.all([runCommand(['stats', ...args]), runCommand(['migrate', '--dry-run', ...args])]);
    for (const ended of all) {
      expect(ended).toMatchObject({ code, stdout: '', stderr: expect.stringMatching(told) });
      expectNoSecret(ended);
    }
  });

  it('is one line for a program with --json', async () => {
    const ended = await runCommand(['reap', '--json', '--url', `postgres://nobody:${PASSWORD}@127.0.0.1:1/shop`]);
    expect(ended.stderr.trimEnd().split('\n')).toHaveLength(1);
    expect(JSON.parse(ended.stderr)).toEqual({
      error: { code: 'IDEMPOTENCY_STORE_UNAVAILABLE', message: expect.stringContaining('refuses connections') },
    });
    expectNoSecret(ended);
  });

  it.each([
    [['nonsense'], /unknown command/],
    [[`postgres://nobody:${PASSWORD}@127.0.0.1/shop`], /unknown command/],
    [['status', `postgres://nobody:${PASSWORD}@127.0.0.1/shop`], /too many arguments/],
    [['status', `--ulr=postgres://nobody:${PASSWORD}@127.0.0.1/shop`], /unknown option/],
    [['status', '--timeout', '5'], /Write a number with its unit/],
    [['status', '--schema', ''], /schema name has 1 to 63 bytes/],
    [['reap', '--batch', '0'], /whole number from 1/],
    [['show', 'id=42'], /Give a scope and a key/],
    [[], /Usage: nestjs-idempotency-pg/],
  ])('of the arguments %j is told as such', async (args, told) => {
    const ended = await runCommand(args, { env: { DATABASE_URL: database.url } });
    expect(ended).toMatchObject({ code: 2, stdout: '', stderr: expect.stringMatching(told) });
    expectNoSecret(ended);
  });
});

describe('the database', () => {
  it('comes from --url, then DATABASE_URL, then the PG variables, and has to come from somewhere', async () => {
    const { hostname, port, username, pathname } = new URL(database.url);
    const elsewhere = 'postgres://127.0.0.1:1/nowhere';
    const pg = { PGHOST: hostname, PGPORT: port, PGUSER: username, PGDATABASE: pathname.slice(1) };
    const codes = await Promise.all([
      runCommand(['status', '--url', database.url], { env: { DATABASE_URL: elsewhere } }),
      runCommand(['status'], { env: { DATABASE_URL: database.url, PGHOST: '127.0.0.1', PGPORT: '1' } }),
      runCommand(['status'], { env: { DATABASE_URL: '', ...pg } }),
    ]);
    expect(codes.map(({ code }) => code)).toEqual([0, 0, 0]);
    expect(await runCommand(['status'])).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(/Set DATABASE_URL, or give --url/),
    });
  });
});

describe('--help', () => {
  it('has examples for every command, and names the exit codes', async () => {
    const all = await runCommand(['--help']);
    expect(all).toMatchObject({ code: 0, stderr: '', stdout: expect.stringMatching(/Exit codes:[^]*5 +tables are missing/) });
    const commands = [...all.stdout.matchAll(/^ {2}([a-z]+) .*/gm)].map(([, name]) => name!).filter((name) => name !== 'help');
    expect(commands).toEqual(['migrate', 'status', 'stats', 'show', 'forget', 'resolve', 'reap', 'sql']);
    for (const command of commands) {
      const { code, stdout } = await runCommand([command, '--help']);
      expect([code, stdout]).toEqual([0, expect.stringMatching(new RegExp(`Examples:[^]*\\$ npx nestjs-idempotency-pg ${command}[^]*`))]);
      expect(stdout).toMatch(/--url <url>/);
    }
  });

  it('--version tells the package’s', async () => {
    expect(await runCommand(['--version'])).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
  });
});
