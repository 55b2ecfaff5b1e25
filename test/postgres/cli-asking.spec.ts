/** A person at a terminal is asked before something goes that can't come back. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { PassThrough } from 'node:stream';
import { runCli } from '../../lib/cli/run.js';
import { Terminal } from '../../lib/cli/terminal.js';
import { identify } from '../../lib/engine/key.js';
import type { PostgresStore } from '../../lib/store/postgres-store.js';
import { aClaim, completed, LEASE_PASSED, openBench, owned, type Bench } from './store-fixture.js';

let bench: Bench;
let store: PostgresStore;
beforeAll(async () => {
  bench = await openBench();
  store = bench.store();
});
afterAll(() => bench.close());

/** Plays the person: types `answer` once there is a question. */
async function atTerminal(args: string[], answer: string, isTTY = true): Promise<{ code: number; stdout: string; stderr: string }> {
  const tty = (): PassThrough & { isTTY: boolean } => Object.assign(new PassThrough(), { isTTY });
  const [stdin, stdout, stderr] = [tty(), tty(), tty()];
  const said = { stdout: '', stderr: '' };
  stdout.setEncoding('utf8').on('data', (text: string) => (said.stdout += text));
  stderr.setEncoding('utf8').on('data', (text: string) => {
    said.stderr += text;
    if (said.stderr.includes('[y/N]') && stdin.writable) stdin.end(answer);
  });
  const terminal = new Terminal({ stdin, stdout, stderr }, { NO_COLOR: '1' });
  const env = { DATABASE_URL: bench.url };
  const code = await runCli(args, { terminal, env, version: '0', onInterruption: () => () => undefined });
  return { code, ...said };
}

async function aRecord(state: 'completed' | 'lost' | 'running'): Promise<readonly [scope: string, key: string]> {
  const key = `${state}-${Math.random()}`;
  const claim = aClaim(identify('id=42', '', key));
  if (state === 'completed') await completed(store, claim);
  else await owned(store, claim);
  if (state === 'lost') await bench.alter(claim.id, LEASE_PASSED);
  return ['id=42', key];
}

const find = ([scope, key]: readonly [string, string]) => store.find(identify(scope, '', key));

describe('forget', () => {
  it('shows the record, and takes yes for yes', async () => {
    const ref = await aRecord('completed');
    const { code, stdout, stderr } = await atTerminal(['forget', ...ref], 'yes\n');
    expect([code, stdout]).toEqual([0, 'The record is gone, and its key is free.\n']);
    expect(stderr).toMatch(/State +completed\n[^]*Forget it\? The next request with this key runs again\. \[y\/N\]/);
    expect(await find(ref)).toBeUndefined();
  });

  it.each([
    ['anything else', 'no\n', 1],
    ['nothing', '\n', 1],
    ['the end of the input', '', 1],
    ['Ctrl-C', '\u0003', 130],
  ])('takes %s for no', async (_, answer, exit) => {
    const ref = await aRecord('completed');
    const { code, stdout, stderr } = await atTerminal(['forget', ...ref], answer);
    expect([code, stdout, stderr]).toEqual([exit, '', expect.stringMatching(/Nothing was changed\.\n$/)]);
    expect(await find(ref)).toBeDefined();
  });

  it('does not ask with --yes, nor where nobody sits', async () => {
    for (const [flags, isTTY] of [
      [['--yes'], true],
      [[], false],
    ] as const) {
      const ref = await aRecord('completed');
      expect(await atTerminal(['forget', ...ref, ...flags], 'no\n', isTTY)).toMatchObject({ code: 0, stderr: '' });
      expect(await find(ref)).toBeUndefined();
    }
  });

  it('asks nothing where there is nothing to decide', async () => {
    expect(await atTerminal(['forget', 'id=42', 'none'], 'yes\n')).toMatchObject({ code: 3, stderr: '' });
    const { code, stderr } = await atTerminal(['forget', ...(await aRecord('running'))], 'yes\n');
    expect([code, stderr]).toEqual([4, expect.not.stringContaining('[y/N]')]);
  });

  it('asks for a whole scope as well', async () => {
    const ref = await aRecord('completed');
    expect(await atTerminal(['forget', 'id=42', '--all'], 'n\n')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('scope "id=42"'),
    });
    expect(await find(ref)).toBeDefined();
  });
});

describe('resolve', () => {
  it('says what every later request will get', async () => {
    const ref = await aRecord('lost');
    expect(await atTerminal(['resolve', ...ref, '--free'], 'n\n')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/State +lost[^]*runs the handler again/),
    });
    expect(await find(ref)).toMatchObject({ state: 'lost' });
    expect(await atTerminal(['resolve', ...ref, '--free'], 'y\n')).toMatchObject({ code: 0, stdout: 'Its key is free.\n' });
    expect(await find(ref)).toBeUndefined();
  });

  it('asks nothing of a record that is not to be resolved', async () => {
    expect(await atTerminal(['resolve', ...(await aRecord('completed')), '--free'], 'y\n')).toMatchObject({ code: 4, stdout: '' });
    expect(await atTerminal(['resolve', ...(await aRecord('running')), '--free'], 'y\n')).toMatchObject({ code: 4, stdout: '' });
    expect(await atTerminal(['resolve', 'id=42', 'none', '--free'], 'y\n')).toMatchObject({ code: 3 });
  });
});

describe('reap', () => {
  it('rewrites one line of progress where somebody watches', async () => {
    for (let count = 0; count < 3; count += 1) {
      const { id } = await completed(store);
      await bench.alter(id, `expires_at = statement_timestamp() - interval '1 s', reap_after = statement_timestamp() - interval '1 s'`);
    }
    const { stdout, stderr } = await atTerminal(['reap', '--batch', '2'], '');
    expect(stderr).toBe('\r2 expired records removed\r3 expired records removed\n');
    expect(stdout).toBe('3 expired records removed; none is left.\n');
  });
});
