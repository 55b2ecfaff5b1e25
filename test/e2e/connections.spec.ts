import { beforeAll, describe, expect, it } from '@jest/globals';
import { Body, Controller, HttpException, Post, StreamableFile } from '@nestjs/common';
import { Agent } from 'node:http';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { Idempotent } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { RunningApp } from '../support/app.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { codeOf, isReplay, send } from './support/wire.js';
import type { Answer, Sent } from './support/wire.js';

const shared = bench();
const ledger = new Ledger();

@Controller()
@Idempotent()
class Answers {
  @Post('object')
  object(@Body() body: { n: number }): object {
    return { run: ledger.run('object'), n: body.n };
  }

  @Post('stream')
  stream(): StreamableFile {
    return new StreamableFile(Readable.from([Buffer.from(`run ${ledger.run('stream')}\n`), Buffer.alloc(100_000, 'x')]));
  }

  @Post('large')
  @Idempotent({ maxBodyBytes: 10 })
  large(): string {
    return 'y'.repeat(200_000 + ledger.run('large'));
  }

  @Post('failing')
  failing(): never {
    throw new HttpException({ run: ledger.run('failing'), padding: 'z'.repeat(3000) }, 503);
  }
}

describe.each(PLATFORMS)('a connection on %s', (platform) => {
  let app: RunningApp;
  beforeAll(async () => {
    app = await shared.start(platform, { controllers: [Answers] });
  });

  it('carries any number of answers, first ones, replays and refusals, one after the other', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const ask = (path: string, sent: Sent): Promise<Answer> => send(`${app.url}${path}`, { ...sent, agent });
    const ports = new Set<unknown>();
    agent.on('free', (socket: { localPort?: number }) => ports.add(socket.localPort));
    try {
      for (let round = 0; round < 3; round++) {
        const keys = [newKey(), newKey(), newKey(), newKey()] as const;
        const body = { n: round };
        const first = await ask('/object', { key: keys[0], body });
        const replay = await ask('/object', { key: keys[0], body });
        const reused = await ask('/object', { key: keys[0], body: { n: -1 } });
        expect([first.status, isReplay(replay), replay.text, codeOf(reused)]).toEqual([201, true, first.text, 'IDEMPOTENCY_KEY_REUSED']);
        const streamed = await ask('/stream', { key: keys[1] });
        expect((await ask('/stream', { key: keys[1] })).body.equals(streamed.body)).toBe(true);
        expect((await ask('/large', { key: keys[2] })).body.length).toBe(200_000 + ledger.total);
        expect(codeOf(await ask('/large', { key: keys[2] }))).toBe('IDEMPOTENCY_RESULT_NOT_REPLAYABLE');
        expect([(await ask('/failing', { key: keys[3] })).status, (await ask('/failing', { key: keys[3] })).status]).toEqual([503, 503]);
      }
      expect(ports.size).toBe(1);
    } finally {
      agent.destroy();
    }
  });

  it('carries requests that were sent without waiting, and their answers in order', async () => {
    const key = newKey();
    const request = (n: number, last: boolean): string => {
      const body = JSON.stringify({ n });
      const head = [
        'POST /object HTTP/1.1',
        'Host: x',
        'Content-Type: application/json',
        `Content-Length: ${body.length}`,
        `Idempotency-Key: ${key}-${n}`,
      ];
      return `${[...head, ...(last ? ['Connection: close'] : [])].join('\r\n')}\r\n\r\n${body}`;
    };
    const pipelined = async (): Promise<string> => {
      const socket = connect(Number(new URL(app.url).port), '127.0.0.1');
      socket.write([0, 1, 2, 3, 4].map((n) => request(n, n === 4)).join(''));
      let received = '';
      for await (const chunk of socket) received += String(chunk);
      return received;
    };
    const answersIn = (received: string): string[] => received.match(/\{"run":\d+,"n":\d\}/g) ?? [];
    const [first, second] = [await pipelined(), await pipelined()];
    expect(answersIn(first).map((answer) => (JSON.parse(answer) as { n: number }).n)).toEqual([0, 1, 2, 3, 4]);
    expect(answersIn(second)).toEqual(answersIn(first));
    expect(second.match(/idempotent-replayed: true/gi)).toHaveLength(5);
  });
});
