/** `stats`, `show`, `forget`, `resolve` and `reap`, on records as applications leave them. */
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Claim, Identity } from '../../lib/contract/record.js';
import type { RecordedResponse } from '../../lib/contract/recorded-response.js';
import { identify } from '../../lib/engine/key.js';
import { Sealing, sealingKey } from '../../lib/engine/sealing.js';
import type { PostgresStore } from '../../lib/store/postgres-store.js';
import { runCommand, startCommand, type CommandOptions, type Ended } from '../support/command.js';
import {
  aClaim,
  anAnswer,
  completed,
  EXPIRED,
  HOUR,
  IN_TIME,
  LEASE_PASSED,
  openBench,
  owned,
  type Bench,
} from '../postgres/store-fixture.js';

jest.setTimeout(60_000);

let bench: Bench;
let store: PostgresStore;
let folder: string;
beforeAll(async () => {
  bench = await openBench();
  store = bench.store();
  folder = await mkdtemp(join(tmpdir(), 'cli-records-'));
});
afterEach(() => bench.pool.query('truncate idempotency_records, idempotency_steps'));
afterAll(async () => {
  await bench.close();
  await rm(folder, { recursive: true, force: true });
});

const run = (args: string[], options: CommandOptions = {}): Promise<Ended> =>
  runCommand(args, { ...options, env: { DATABASE_URL: bench.url, ...options.env } });

async function json(args: string[], options?: CommandOptions): Promise<{ code: number | null; document: unknown; error: unknown }> {
  const { code, stdout, stderr } = await run([...args, '--json'], options);
  return { code, document: stdout === '' ? undefined : JSON.parse(stdout), error: stderr === '' ? undefined : JSON.parse(stderr) };
}

const anIdentity = ({ scope = 'id=42', operation = '', key = randomUUID() as string } = {}): Identity => identify(scope, operation, key);

async function running(identity = anIdentity()): Promise<Claim> {
  return owned(store, aClaim(identity));
}

async function lost(identity = anIdentity()): Promise<Claim> {
  const claim = await running(identity);
  await bench.alter(claim.id, LEASE_PASSED);
  return claim;
}

async function answered(answer: RecordedResponse = anAnswer(), identity = anIdentity()): Promise<Claim> {
  return completed(store, aClaim(identity), answer);
}

async function sealed(identity = anIdentity()): Promise<Claim> {
  const claim = await running(identity);
  await store.seal(claim, 200, HOUR, IN_TIME);
  return claim;
}

async function opened(identity = anIdentity()): Promise<Claim> {
  const claim = await running(identity);
  await store.recordStep(claim, { name: 'charge', result: Buffer.from('1') }, IN_TIME);
  await store.release(claim, HOUR, IN_TIME);
  return claim;
}

async function answerFile(content: unknown): Promise<string> {
  const file = join(folder, `${randomUUID()}.json`);
  await writeFile(file, typeof content === 'string' ? content : JSON.stringify(content));
  return file;
}

/** What the next request with the key would meet. */
async function met(identity: Identity): Promise<unknown> {
  const result = await store.claim(aClaim(identity), IN_TIME);
  return result.kind === 'found' ? (result.record.state === 'completed' ? result.record.answer : result.record.state) : result.kind;
}

describe('stats', () => {
  it('counts by state, tells the oldest lost one and the size of the tables', async () => {
    await Promise.all([running(), lost(), lost(), sealed(), answered()]);
    const { id } = await answered();
    await bench.alter(id, EXPIRED);
    const { code, document } = await json(['stats']);
    expect([code, document]).toEqual([
      0,
      {
        running: 1,
        lost: 2,
        completed: 1,
        sealed: 1,
        open: 0,
        expired: 1,
        oldestLost: (await store.stats()).oldestLost?.toISOString(),
        tables: {
          records: { tableBytes: expect.any(Number), indexBytes: expect.any(Number) },
          steps: { tableBytes: expect.any(Number), indexBytes: expect.any(Number) },
        },
      },
    ]);
    const { stdout } = await run(['stats']);
    expect(stdout).toMatch(/^State +Records\nrunning +1\nlost +2\nopen +0\ncompleted +1\nsealed +1\nexpired +1\n\nTable +Size +Indexes\n/);
    expect(stdout).not.toContain('\u001b'); // a pipe is no terminal
  });

  it('says which command is missing where there are no tables', async () => {
    expect(await json(['stats', '--schema', 'nowhere'])).toEqual({
      code: 5,
      document: undefined,
      error: { error: { code: 'IDEMPOTENCY_SCHEMA_MISSING', message: expect.stringMatching(/"public".*nestjs-idempotency-pg migrate/) } },
    });
  });
});

describe('show', () => {
  it('tells a record as find does, with the names of its steps, and nothing of its answer', async () => {
    const claim = await running();
    await store.recordStep(claim, { name: 'charge', result: Buffer.from('"step-result"') }, IN_TIME);
    await store.complete(claim, anAnswer({ headers: [['location', '/header-value']], body: Buffer.from('body-value') }), HOUR, IN_TIME);
    const { scope, key } = claim.identity;
    const shown = await json(['show', scope, key]);
    expect(shown.code).toBe(0);
    expect(shown.document).toEqual(JSON.parse(JSON.stringify(await store.find(claim.identity))));
    const { stdout } = await run(['show', scope, key]);
    expect(stdout).toMatch(
      /^State +completed\nScope +id=42\nOperation +"" \(keys from a header\)\nKey +\S+\nAttempt +1\nStatus +201\nSteps +charge\nCreated/,
    );
    expect(stdout + JSON.stringify(shown)).not.toMatch(/step-result|header-value|body-value/);
  });

  it('finds keys of the shared space and of a named operation', async () => {
    const { key } = (await running(anIdentity({ scope: '', operation: 'invoice-mail' }))).identity;
    expect(await json(['show', '', key, '--operation', 'invoice-mail'])).toMatchObject({
      code: 0,
      document: { state: 'running', operation: 'invoice-mail' },
    });
    expect(await json(['show', '', key])).toEqual({ code: 3, document: null, error: undefined });
    expect(await run(['show', '', key])).toMatchObject({ code: 3, stdout: expect.stringMatching(/no record of this key.*--operation/) });
  });

  it('shows the answer with --body only: text as it is, bytes by their number', async () => {
    const text = await answered(
      anAnswer({
        headers: [
          ['content-type', 'application/json'],
          ['link', ['<a>', '<b>']],
        ],
        body: Buffer.from('{"ž":1}'),
      }),
    );
    const bytes = await answered(anAnswer({ headers: [['content-type', 'image/png']], body: Buffer.of(0x89, 0x50, 0xff, 0) }));
    const show = (claim: Claim) => ['show', claim.identity.scope, claim.identity.key, '--body'];
    expect((await run(show(text))).stdout).toMatch(
      /Answer +201, 8 bytes\ncontent-type +application\/json\nlink +<a>\nlink +<b>\n\n\{"ž":1\}\n$/,
    );
    expect((await json(show(text))).document).toMatchObject({
      answer: { status: 201, headers: { 'content-type': 'application/json', link: ['<a>', '<b>'] }, body: '{"ž":1}' },
    });
    expect((await run(show(bytes))).stdout).toMatch(/The body is binary: 4 bytes\.\n$/);
    expect((await json(show(bytes))).document).toMatchObject({ answer: { bodyBase64: Buffer.of(0x89, 0x50, 0xff, 0).toString('base64') } });
    expect((await json(show(await running()))).document).toMatchObject({ answer: null });
  });

  it('lets nothing that a client sent command the terminal', async () => {
    const escape = '\u001b[2J\u009b1m\u202e';
    const { identity } = await answered(
      anAnswer({ body: Buffer.from(`line\n${escape}`) }),
      anIdentity({ scope: `evil${escape}`, key: 'k' }),
    );
    for (const args of [
      ['show', identity.scope, 'k', '--body'],
      ['show', identity.scope, 'k', '--body', '--json'],
    ]) {
      const { code, stdout } = await run(args);
      expect([code, /[^\P{Cc}\n]|\u202e/u.test(stdout)]).toEqual([0, false]);
    }
  });

  it('lists the lost ones, the oldest first, and passes by those that only look so', async () => {
    const [young, old, held] = [await lost(), await lost(), await lost()];
    await bench.alter(old.id, `locked_until = statement_timestamp() - interval '1 hour'`);
    const holder = await bench.pool.connect();
    await holder.query('begin');
    await holder.query('select from idempotency_records where id = $1 for update', [held.id]);
    const { document } = await json(['show', '--lost']);
    await holder.query('rollback');
    holder.release();
    expect(document).toMatchObject([
      { state: 'lost', key: old.identity.key },
      { state: 'lost', key: young.identity.key },
    ]);
    expect(document).toHaveLength(2);
    const { stdout } = await run(['show', '--lost', '--limit', '1']);
    expect(stdout).toMatch(
      new RegExp(`^Lease ran out +Scope +Operation +Key +Attempt +Steps\\n\\S+Z +id=42 +"" +${old.identity.key} +1\\n$`),
    );
  });
});

describe('forget', () => {
  it('frees a key whatever it has, but not one whose execution is running', async () => {
    for (const make of [answered, sealed, opened, lost]) {
      const { identity } = await make();
      expect(await json(['forget', identity.scope, identity.key])).toEqual({ code: 0, document: { removed: true }, error: undefined });
      expect(await met(identity)).toBe('claimed');
    }
    const { identity } = await running();
    expect(await json(['forget', identity.scope, identity.key])).toEqual({
      code: 4,
      document: undefined,
      error: { error: { code: 'IDEMPOTENCY_KEY_IN_USE', message: expect.any(String) } },
    });
    expect(await met(identity)).toBe('running');
    expect(await json(['forget', identity.scope, 'another'])).toEqual({ code: 3, document: { removed: false }, error: undefined });
  });

  it('forgets every key of a scope, and of no other one, with --all', async () => {
    const [mine, sealedOfMine, inUse] = [await answered(), await sealed(), await running()];
    const other = await answered(anAnswer(), anIdentity({ scope: 'id=4' }));
    expect(await json(['forget', 'id=42', '--all'])).toMatchObject({ code: 0, document: { removed: 2 } });
    expect(await Promise.all([mine, sealedOfMine, inUse, other].map(({ identity }) => store.find(identity)))).toEqual([
      undefined,
      undefined,
      expect.objectContaining({ state: 'running' }),
      expect.objectContaining({ state: 'completed' }),
    ]);
  });

  it.each(['id=42', 'id=42 key --all'])('refuses to guess what is meant (%s)', async (args) => {
    expect(await run(['forget', ...args.split(' ')])).toMatchObject({ code: 2, stdout: '', stderr: expect.stringMatching(/--all/) });
  });
});

describe('resolve', () => {
  it('frees a lost, open or sealed key, or gives it an answer', async () => {
    for (const make of [lost, opened, sealed]) {
      const freed = (await make()).identity;
      expect(await json(['resolve', freed.scope, freed.key, '--free'])).toEqual({
        code: 0,
        document: { resolved: true },
        error: undefined,
      });
      expect(await met(freed)).toBe('claimed');

      const settled = (await make()).identity;
      const file = await answerFile({ status: 201, headers: { Location: '/payments/7' }, body: { payment: 7 } });
      expect(await json(['resolve', settled.scope, settled.key, '--answer', file])).toMatchObject({
        code: 0,
        document: { resolved: true },
      });
      expect(await met(settled)).toEqual({
        status: 201,
        headers: [
          ['content-type', 'application/json; charset=utf-8'],
          ['location', '/payments/7'],
        ],
        body: Buffer.from('{"payment":7}'),
      });
    }
  });

  it('takes what show --body --json wrote, byte for byte, and keeps it as long as it is told', async () => {
    const answer = anAnswer({
      headers: [
        ['content-type', 'image/png'],
        ['link', ['<a>', '<b>']],
      ],
      body: Buffer.of(0x89, 0xff, 0),
    });
    const { identity } = await answered(answer);
    const { document } = await json(['show', identity.scope, identity.key, '--body']);
    const other = (await lost()).identity;
    const input = JSON.stringify((document as { answer: unknown }).answer);
    expect(await run(['resolve', other.scope, other.key, '--answer', '-', '--ttl', '90d'], { input })).toMatchObject({ code: 0 });
    expect(await met(other)).toEqual(answer);
    const { completedAt, expiresAt } = (await store.find(other))!;
    expect(expiresAt!.getTime() - completedAt!.getTime()).toBe(90 * 24 * HOUR);
  });

  it('replaces no answer, disturbs no execution, and says when there is nothing', async () => {
    const [done, live] = [(await answered()).identity, (await running()).identity];
    expect(await json(['resolve', done.scope, done.key, '--free'])).toMatchObject({
      code: 4,
      error: { error: { code: 'IDEMPOTENCY_ANSWER_STANDS' } },
    });
    expect(await json(['resolve', live.scope, live.key, '--free'])).toMatchObject({
      code: 4,
      error: { error: { code: 'IDEMPOTENCY_KEY_IN_USE' } },
    });
    expect(await json(['resolve', live.scope, 'another', '--free'])).toEqual({ code: 3, document: { resolved: false }, error: undefined });
    expect(await Promise.all([met(done), met(live)])).toEqual([anAnswer(), 'running']);
  });

  it('wants one of --free and --answer, and an answer that can be replayed', async () => {
    const { scope, key } = (await lost()).identity;
    const file = await answerFile({ status: 201, headers: { 'Set-Cookie': 'session=secret' } });
    const faults = await Promise.all([
      run(['resolve', scope, key]),
      run(['resolve', scope, key, '--free', '--answer', file]),
      run(['resolve', scope, key, '--answer', file]),
    ]);
    expect(faults.map(({ code }) => code)).toEqual([2, 2, 2]);
    expect(faults[2]!.stderr).toMatch(/Set-Cookie/);
    expect(faults[2]!.stderr).not.toContain('secret');
    expect(await store.find(identify(scope, '', key))).toMatchObject({ state: 'lost' });
  });
});

describe('with encryption', () => {
  const [OLD, NEW] = ['an old key of at least thirty-two characters', Buffer.alloc(32, 7)];
  const keys = `base64:${NEW.toString('base64')}\n${OLD}`;
  const sealing = new Sealing({ keys: [sealingKey(NEW), sealingKey(OLD)], acceptPlain: false, writePlain: false });
  const before = new Sealing({ keys: [sealingKey(OLD)], acceptPlain: false, writePlain: false });

  async function encrypted(): Promise<Identity> {
    const identity = anIdentity();
    await answered(before.sealAnswer(identity.id, anAnswer({ body: Buffer.from('secret answer') })), identity);
    return identity;
  }

  it('shows an answer with the application’s keys, and says what is missing without', async () => {
    const { scope, key } = await encrypted();
    const shown = await json(['show', scope, key, '--body'], { env: { IDEMPOTENCY_ENCRYPTION_KEYS: keys } });
    expect(shown).toMatchObject({ code: 0, document: { answer: { body: 'secret answer' } } });
    const blind = await run(['show', scope, key, '--body']);
    expect(blind).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(/encrypted/) });
    expect(await run(['show', scope, key])).toMatchObject({ code: 0 });
  });

  it('seals an answer that is given by hand, and gives none that the application would refuse', async () => {
    await encrypted();
    const { id, scope, key } = (await lost()).identity;
    const args = ['resolve', scope, key, '--answer', await answerFile({ status: 200, body: 'by hand' })];
    expect(await json(args)).toMatchObject({
      code: 4,
      error: { error: { message: expect.stringMatching(/IDEMPOTENCY_ENCRYPTION_KEYS/) } },
    });
    expect(await json(args, { env: { IDEMPOTENCY_ENCRYPTION_KEYS: keys } })).toMatchObject({ code: 0 });
    const kept = await store.answer(identify(scope, '', key));
    expect(kept!.body.toString()).not.toContain('by hand');
    expect(sealing.openAnswer(id, kept!).body.toString()).toBe('by hand');
  });

  it('says which key is none, and not how it goes', async () => {
    const { scope, key } = await encrypted();
    const { code, stderr } = await run(['show', scope, key, '--body'], { env: { IDEMPOTENCY_ENCRYPTION_KEYS: `${OLD}\ntoo-short-a-key` } });
    expect([code, stderr]).toEqual([2, expect.stringMatching(/Line 2/)]);
    expect(stderr).not.toContain('too-short-a-key');
  });
});

describe('reap', () => {
  async function expired(count: number): Promise<Claim[]> {
    const claims = await Promise.all(Array.from({ length: count }, () => answered()));
    for (const [at, { id }] of claims.entries()) {
      await bench.alter(id, `${EXPIRED.replace(/reap_after.*/, '')} reap_after = statement_timestamp() - interval '${count - at} minutes'`);
    }
    return claims;
  }

  it('removes what has expired, bite by bite, until nothing is left', async () => {
    await Promise.all([expired(7), answered(), lost()]);
    expect(await json(['reap', '--batch', '3'])).toEqual({ code: 0, document: { removed: 7 }, error: undefined });
    expect(await bench.count()).toBe(2);
    expect(await run(['reap'])).toMatchObject({ code: 0, stdout: '0 expired records removed; none is left.\n', stderr: '' });
  });

  it('ends after the bite under way at Ctrl-C, and tells how far it came', async () => {
    const [, second] = await expired(5);
    const holder = await bench.pool.connect();
    await holder.query('begin');
    await holder.query('select from idempotency_records where id = $1 for update', [second!.id]);
    const command = startCommand(['reap', '--batch', '1', '--json'], { env: { DATABASE_URL: bench.url } });
    await bench.somebodyWaitsForALock();
    command.kill('SIGINT');
    await command.told(/Ending after this bite/);
    await holder.query('rollback');
    holder.release();
    const { code, stdout } = await command.ended;
    expect([code, JSON.parse(stdout)]).toEqual([130, { removed: 2, interrupted: true }]);
    expect(await bench.count()).toBe(3);
  });

  it('ends at once at the second Ctrl-C, and loses nothing but the bite', async () => {
    const [first] = await expired(3);
    const holder = await bench.pool.connect();
    await holder.query('begin');
    await holder.query('select from idempotency_records where id = $1 for update', [first!.id]);
    const command = startCommand(['reap', '--batch', '1'], { env: { DATABASE_URL: bench.url } });
    await bench.somebodyWaitsForALock();
    command.kill('SIGINT');
    await command.told(/Ending after this bite/);
    command.kill('SIGINT');
    expect(await command.ended).toMatchObject({ code: null, signal: 'SIGINT', stdout: '' });
    await holder.query('rollback');
    holder.release();
    expect(await run(['reap'])).toMatchObject({ code: 0 });
    expect(await bench.count()).toBe(0);
  });
});

describe('a schema of another name', () => {
  it('is found by every command', async () => {
    const other = await openBench(`Pay "ments"`);
    try {
      const claims = other.store({ schema: `Pay "ments"` });
      const { scope, key } = (await completed(claims, aClaim(anIdentity()))).identity;
      const there = ['--schema', `Pay "ments"`, '--url', other.url];
      expect(await json(['show', scope, key, ...there])).toMatchObject({ code: 0, document: { state: 'completed' } });
      expect(await json(['stats', ...there])).toMatchObject({ code: 0, document: { completed: 1 } });
      expect(await json(['forget', scope, key, ...there])).toMatchObject({ code: 0 });
      expect(await json(['reap', ...there])).toMatchObject({ code: 0, document: { removed: 0 } });
    } finally {
      await other.close();
    }
  });
});
