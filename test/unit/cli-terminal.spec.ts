import { describe, expect, it } from '@jest/globals';
import { PassThrough } from 'node:stream';
import { Terminal } from '../../lib/cli/terminal.js';

function aTerminal(
  isTTY: boolean,
  env: NodeJS.ProcessEnv = {},
): { terminal: Terminal; at: { now: number }; stdout: PassThrough; stderr: PassThrough } {
  const stream = (): PassThrough => Object.assign(new PassThrough(), { isTTY });
  const [stdin, stdout, stderr] = [stream(), stream(), stream()];
  const at = { now: 0 };
  return { terminal: new Terminal({ stdin, stdout, stderr }, env, () => at.now), at, stdout, stderr };
}

const written = (stream: PassThrough): string => String(stream.read() ?? '');

describe('headings', () => {
  it.each<[why: string, isTTY: boolean, env: NodeJS.ProcessEnv, bold: boolean]>([
    ['bold at a terminal', true, {}, true],
    ['bold with an empty NO_COLOR, which is none', true, { NO_COLOR: '' }, true],
    ['plain in a pipe', false, {}, false],
    ['plain with NO_COLOR', true, { NO_COLOR: '1' }, false],
    ['plain at a dumb terminal', true, { TERM: 'dumb' }, false],
  ])('are %s', (_, isTTY, env, bold) => {
    expect(aTerminal(isTTY, env).terminal.heading('Key')).toBe(bold ? '\u001b[1mKey\u001b[22m' : 'Key');
  });
});

describe('progress', () => {
  it('rewrites one line at a terminal, and lets what comes after it begin a new one', () => {
    const { terminal, stdout, stderr } = aTerminal(true);
    terminal.progress('1');
    terminal.progress('2');
    terminal.print('done');
    expect([written(stderr), written(stdout)]).toEqual(['\r1\r2\n', 'done\n']);
  });

  it('is a line every ten seconds in a log', () => {
    const { terminal, at, stderr } = aTerminal(false);
    for (at.now = 0; at.now <= 25_000; at.now += 1000) terminal.progress(`${at.now / 1000} s`);
    expect(written(stderr)).toBe('10 s\n20 s\n');
  });
});

describe('a reader that has read enough', () => {
  it('is no fault of the command, and everything else that breaks an output is', () => {
    const { stdout } = aTerminal(false);
    expect(() => stdout.emit('error', Object.assign(new Error('broken'), { code: 'EPIPE' }))).not.toThrow();
    expect(() => stdout.emit('error', Object.assign(new Error('full'), { code: 'ENOSPC' }))).toThrow('full');
  });
});

describe('questions', () => {
  it('are for terminals', () => {
    expect([aTerminal(true).terminal.isInteractive, aTerminal(false).terminal.isInteractive]).toEqual([true, false]);
  });
});
