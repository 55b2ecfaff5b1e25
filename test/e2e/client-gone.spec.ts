import { describe, expect, it } from '@jest/globals';
import { Controller, Headers, Param, Post, Res, StreamableFile } from '@nestjs/common';
import type { PipeTransform } from '@nestjs/common';
import { request } from 'node:http';
import type { ClientRequest } from 'node:http';
import { PassThrough, Readable } from 'node:stream';
import { defer, map } from 'rxjs';
import type { Observable } from 'rxjs';
import { Idempotent } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { bare } from './support/platform-response.js';
import type { PlatformResponse } from './support/platform-response.js';
import { Stage, until } from './support/stage.js';
import { codeOf, isReplay, send } from './support/wire.js';

const shared = bench();
const stage = new Stage();
const ledger = new Ledger();

/** A request that the test can hang up on. */
function call(url: string, key: string): ClientRequest {
  const calling = request(url, { method: 'POST', agent: false, headers: { 'idempotency-key': key, 'content-length': 0 } });
  calling.on('error', () => undefined);
  calling.end();
  return calling;
}

/** Hangs up, and returns when the server has noticed. */
async function hangUp(calling: ClientRequest, connections: () => Promise<number>): Promise<void> {
  calling.destroy();
  await until(async () => (await connections()) === 0);
}

const slowPipe: PipeTransform<string, Promise<string>> = {
  async transform(value) {
    await stage.stopAt(`${value} pipe`);
    return value;
  },
};

@Controller()
class Payments {
  private async work(key: string): Promise<number> {
    const run = ledger.run(key);
    await stage.stopAt(key);
    return run;
  }

  @Idempotent()
  @Post('promise')
  async promise(@Headers('idempotency-key') key: string): Promise<object> {
    return { run: await this.work(key) };
  }

  @Idempotent()
  @Post('observable')
  observable(@Headers('idempotency-key') key: string): Observable<object> {
    return defer(() => this.work(key)).pipe(map((run) => ({ run })));
  }

  @Idempotent()
  @Post('file')
  async file(@Headers('idempotency-key') key: string): Promise<StreamableFile> {
    const run = await this.work(key);
    return new StreamableFile(Readable.from([Buffer.from('receipt '), Buffer.from(String(run))]), { type: 'text/plain' });
  }

  @Idempotent()
  @Post('json')
  async json(@Headers('idempotency-key') key: string, @Res() response: PlatformResponse): Promise<void> {
    response.status(201).send({ run: await this.work(key) });
  }

  @Idempotent()
  @Post('piped')
  async piped(@Headers('idempotency-key') key: string, @Res() response: PlatformResponse): Promise<void> {
    const run = await this.work(key);
    const source = new PassThrough();
    source.pipe(bare(response));
    source.write('receipt ');
    source.end(String(run));
  }

  /** The framework is done with it before the answer has begun. */
  @Idempotent()
  @Post('later')
  later(@Headers('idempotency-key') key: string, @Res() response: PlatformResponse): void {
    void this.work(key).then((run) => response.status(201).send({ run }));
  }

  @Idempotent()
  @Post('failing')
  async failing(@Headers('idempotency-key') key: string): Promise<never> {
    await this.work(key);
    throw new Error('the provider is away');
  }

  @Idempotent({ lockTtl: '1s' })
  @Post('silent')
  async silent(@Headers('idempotency-key') key: string, @Res() _response: PlatformResponse): Promise<void> {
    await this.work(key);
  }

  @Idempotent({ lockTtl: '1s' })
  @Post('silent-failure')
  async silentFailure(@Headers('idempotency-key') key: string, @Res() response: PlatformResponse): Promise<void> {
    await this.work(key);
    bare(response).destroy();
    throw new Error('the provider is away');
  }

  @Idempotent()
  @Post('validated/:value')
  async validated(@Headers('idempotency-key') key: string, @Param('value', slowPipe) _value: string): Promise<object> {
    return { run: await this.work(key) };
  }
}

describe.each(PLATFORMS)('a client that hangs up while the handler runs on %s', (platform) => {
  const settled = async (key: string): Promise<boolean> => (await stateOf(key)) !== 'running';

  async function stateOf(key: string): Promise<string | undefined> {
    const { rows } = await shared.database().pool.query<{ state: number }>('select state from idempotency_records where key = $1', [key]);
    return rows[0] === undefined ? undefined : ['running', 'completed', 'sealed', 'open'][rows[0].state];
  }

  /** Calls, hangs up when the handler is at work, and lets it go on. */
  async function leave(
    path: string,
    work: (left: { url: string; key: string }) => Promise<void>,
    cue = (key: string): string => key,
  ): Promise<void> {
    await shared.within(platform, { controllers: [Payments] }, async ({ app, url }) => {
      const server = app.getHttpServer() as { getConnections(callback: (error: Error | null, count: number) => void): void };
      const connections = (): Promise<number> => new Promise((resolve) => server.getConnections((_, count) => resolve(count)));
      const key = newKey();
      const target = `${url}/${path.replace(':key', key)}`;
      const calling = call(target, key);
      await stage.reached(cue(key));
      await hangUp(calling, connections);
      stage.open(cue(key));
      await work({ url: target, key }).finally(() => stage.openAll());
    });
  }

  it.each(['promise', 'observable', 'file', 'json', 'piped', 'later'])(
    'does not stop it, and its answer is kept for the retry: %s',
    (path) =>
      leave(path, async ({ url, key }) => {
        await until(() => settled(key));
        const retry = await send(url, { key });
        expect([retry.status, isReplay(retry)]).toEqual([201, true]);
        expect(retry.text).toMatch(/^(\{"run":\d+\}|receipt \d+)$/);
        expect(ledger.runs(key)).toBe(1);
      }),
  );

  it('is told, if it comes back before the handler is done, that it is too early', () =>
    shared.within(platform, { controllers: [Payments] }, async ({ url }) => {
      const key = newKey();
      const calling = call(`${url}/promise`, key);
      await stage.reached(key);
      calling.destroy();
      expect(codeOf(await send(`${url}/promise`, { key }))).toBe('IDEMPOTENCY_KEY_IN_USE');
      stage.open(key);
      await until(() => settled(key));
    }));

  it('leaves a key that is free if the handler fails', () =>
    leave('failing', async ({ key }) => {
      await until(async () => (await shared.records(key)) === 0);
    }));

  it('leaves a key that is done, and not in use for ever, if a handler with @Res() never answers', () =>
    leave('silent', async ({ url, key }) => {
      await until(() => settled(key));
      expect(codeOf(await send(url, { key }))).toBe('IDEMPOTENCY_RESULT_NOT_REPLAYABLE');
      expect(ledger.runs(key)).toBe(1);
    }));

  it('leaves a key that is free if a handler with @Res() gives up instead of answering', () =>
    leave('silent-failure', async ({ key }) => {
      await until(async () => (await shared.records(key)) === 0);
    }));

  it('before the handler has begun leaves a key that is free, or an answer: never one that is in use for ever', () =>
    leave(
      'validated/:key',
      async ({ url, key }) => {
        stage.open(key);
        await until(() => settled(key));
        const retry = await send(url, { key });
        expect(retry.status).toBe(201);
        expect(ledger.runs(key)).toBe(1);
      },
      (key) => `${key} pipe`,
    ));
});

describe.each(PLATFORMS)('a response that its handler destroys on %s', (platform) => {
  it('leaves a key that is not in use any more', () =>
    shared.within(platform, { controllers: [Payments] }, async ({ url }) => {
      const key = newKey();
      stage.open(key);
      const calling = call(`${url}/silent-failure`, key);
      await new Promise((resolve) => calling.once('close', resolve));
      await until(async () => (await shared.records(key)) === 0);
    }));
});
