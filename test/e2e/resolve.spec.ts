/** What a person does about a record whose execution can't say any more what became of it. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Controller, Post } from '@nestjs/common';
import { CurrentExecution, Idempotent, IdempotencyService } from '../../lib/index.js';
import type { IdempotentExecution, RecordRef } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { RunningApp } from '../support/app.js';
import { bench, newKey } from './support/bench.js';
import { Play, Script, books } from './support/desk.js';
import type { Played } from './support/desk.js';
import { Stage } from './support/stage.js';
import { codeOf, field, isReplay, json } from './support/wire.js';

const shared = bench();
const ours = books(shared);
const stage = new Stage();

@Controller()
class Desk {
  @Idempotent({ onLostExecution: 'reject', maxBodyBytes: 1000 })
  @Post('plain')
  plain(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ atomic: true, lockTtl: '1s' })
  @Post('atomic')
  atomic(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }
}

describe.each(PLATFORMS)('resolve on %s', (platform) => {
  let app: RunningApp;
  let service: IdempotencyService;

  beforeAll(async () => {
    app = await shared.start(platform, { controllers: [Desk], options: { pool: undefined, dataSource: ours.dataSource() } });
    service = app.app.get(IdempotencyService);
  });
  afterAll(() => stage.openAll());

  const refOf = (key: string): RecordRef => ({ scope: '', key });

  /** Brings a key into that state by way of a handler that counts its runs. */
  async function inState(state: 'lost' | 'open' | 'sealed', key: string): Promise<Script> {
    const script = new Script(async ({ execution, run }) => {
      if (run > 1) return { run };
      if (state === 'open') {
        await execution.step('charge', () => 'charged');
        throw new Error('after the step');
      }
      return state === 'sealed' ? { large: 'x'.repeat(2000) } : { run };
    });
    await script.send(`${app.url}/plain`, { key });
    if (state === 'lost') {
      await shared.alter(
        key,
        `state = 0, locked_until = now() - interval '1 hour', expires_at = null, completed_at = null, status = null, headers = null, body = null`,
      );
      expect(codeOf(await script.send(`${app.url}/plain`, { key }))).toBe('IDEMPOTENCY_OUTCOME_UNKNOWN');
    }
    expect(await service.find(refOf(key))).toMatchObject({ state });
    return script;
  }

  describe.each(['lost', 'open', 'sealed'] as const)('of a key that is %s', (state) => {
    it('frees it: the next request runs', async () => {
      const key = newKey();
      const script = await inState(state, key);
      expect(await service.resolve(refOf(key), 'free')).toBe(true);
      expect(await service.find(refOf(key))).toBeUndefined();
      const answer = await script.send(`${app.url}/plain`, { key });
      expect([answer.status, isReplay(answer), json(answer)]).toEqual([201, false, { run: 2 }]);
    });

    it('gives it an answer, which is everybody’s from then on', async () => {
      const key = newKey();
      const script = await inState(state, key);
      const answer = { status: 202, headers: { location: '/payments/7', link: ['</a>; rel=a', '</b>; rel=b'] }, body: { charged: true } };
      expect(await service.resolve(refOf(key), { answer })).toBe(true);
      expect(await service.find(refOf(key))).toMatchObject({ state: 'completed', status: 202 });
      const replay = await script.send(`${app.url}/plain`, { key });
      expect([replay.status, isReplay(replay), json(replay), script.runs]).toEqual([202, true, { charged: true }, 1]);
      expect([field(replay, 'location'), replay.headers['link'], field(replay, 'content-type')]).toEqual([
        '/payments/7',
        ['</a>; rel=a', '</b>; rel=b'],
        'application/json; charset=utf-8',
      ]);
      // Another request is another one all the same.
      expect(codeOf(await script.send(`${app.url}/plain`, { key, body: { other: true } }))).toBe('IDEMPOTENCY_KEY_REUSED');
    });
  });

  it.each<[string, unknown, string, string | undefined]>([
    ['a text', 'charged', 'charged', 'text/plain; charset=utf-8'],
    ['bytes', Buffer.from('charged'), 'charged', 'application/octet-stream'],
    ['nothing', undefined, '', undefined],
  ])('takes %s for a body', async (_, body, text, type) => {
    const key = newKey();
    const script = await inState('sealed', key);
    await service.resolve(refOf(key), { answer: { status: 200, body } });
    const replay = await script.send(`${app.url}/plain`, { key });
    expect([replay.text, field(replay, 'content-type')]).toEqual([text, type]);
  });

  it('refuses a key whose handler is at work, in atomic mode even after its lease', async () => {
    for (const path of ['plain', 'atomic']) {
      const key = newKey();
      const script = new Script(async () => {
        await stage.stopAt(key);
        return {};
      });
      const running = script.send(`${app.url}/${path}`, { key });
      await stage.reached(key);
      if (path === 'atomic') await leaseIsOver(key);
      for (const resolution of ['free', { answer: { status: 200 } }] as const) {
        await expect(service.resolve(refOf(key), resolution)).rejects.toMatchObject({ code: 'IDEMPOTENCY_KEY_IN_USE', status: 409 });
      }
      stage.open(key);
      expect((await running).status).toBe(201);
    }
  });

  it('never replaces an answer', async () => {
    const key = newKey();
    const script = new Script(() => ({ first: true }));
    await script.send(`${app.url}/plain`, { key });
    for (const resolution of ['free', { answer: { status: 200 } }] as const) {
      await expect(service.resolve(refOf(key), resolution)).rejects.toMatchObject({ code: 'IDEMPOTENCY_ANSWER_STANDS', status: 409 });
    }
    expect(json(await script.send(`${app.url}/plain`, { key }))).toEqual({ first: true });
  });

  it('says when there is nothing to resolve', async () => {
    expect(await service.resolve(refOf(newKey()), 'free')).toBe(false);
    expect(await service.resolve(refOf(newKey()), { answer: { status: 200 } })).toBe(false);
  });

  it('a late owner whose key was resolved is refused, and its client hears the answer that was given', async () => {
    const key = newKey();
    const script = new Script(async () => {
      await stage.stopAt(key);
      return { late: true };
    });
    const late = script.send(`${app.url}/plain`, { key });
    await stage.reached(key);
    await shared.alter(key, `locked_until = now() - interval '1 second'`);
    expect(await service.resolve(refOf(key), { answer: { status: 200, body: { byHand: true } } })).toBe(true);
    stage.open(key);
    const answer = await late;
    expect([isReplay(answer), json(answer)]).toEqual([true, { byHand: true }]);
  });

  it('refuses what is no answer', async () => {
    await expect((async () => service.resolve(refOf(newKey()), { answer: { status: 99 } }))()).rejects.toThrow('200 to 599');
    await expect((async () => service.resolve(refOf(newKey()), { answer: { status: 200.5 } }))()).rejects.toThrow('200 to 599');
  });

  async function leaseIsOver(key: string): Promise<void> {
    for (;;) {
      const { rows } = await shared
        .database()
        .pool.query<{ over: boolean }>('select locked_until < now() as over from idempotency_records where key = $1', [key]);
      if (rows[0]?.over) return;
    }
  }
});
