import { beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Post } from '@nestjs/common';
import type { Type } from '@nestjs/common';
import { CurrentExecution, Idempotent } from '../../lib/index.js';
import type { IdempotencyModuleOptions, IdempotentExecution } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { RunningApp } from '../support/app.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { as, believingGuard } from './support/callers.js';
import { Journal } from './support/journal.js';
import { codeOf, isReplay, json, send } from './support/wire.js';
import type { Answer } from './support/wire.js';

const shared = bench();
const ledger = new Ledger();
const runOf = (answer: Answer): unknown => (json(answer) as { run?: unknown }).run;

@Controller()
class Accounts {
  @Post('payments')
  @Idempotent()
  pay(@CurrentExecution() execution: IdempotentExecution): object {
    return { run: ledger.run('pay'), scope: execution.scope };
  }

  @Post('transfers')
  @Idempotent()
  transfer(): object {
    return { run: ledger.run('transfer') };
  }
}

describe.each(PLATFORMS)('whose key it is on %s', (platform) => {
  const journal = new Journal();
  const parts = (options: IdempotencyModuleOptions = {}, controllers: Type[] = [Accounts]) => ({
    controllers,
    options,
    configure: (nest: RunningApp['app']) => void nest.useGlobalGuards(believingGuard),
    create: { logger: journal },
  });

  beforeEach(() => {
    journal.lines.length = 0;
  });

  describe('by request.user', () => {
    let app: RunningApp;
    beforeAll(async () => {
      app = await shared.start(platform, parts());
    });
    const pay = (user: unknown, key: string): Promise<Answer> => send(`${app.url}/payments`, { key, headers: as(user) });

    it.each([
      [{ id: 42 }, 'id=42'],
      [{ id: '42' }, 'id=42'],
      [{ sub: 'auth0|7' }, 'sub=auth0|7'],
      [{ userId: 'u-1', name: 'Ann' }, 'userId=u-1'],
      [{ id: 1, sub: 'two', userId: 3 }, 'id=1'],
    ])('%j is the scope %s', async (user, scope) => {
      expect(json(await pay(user, newKey()))).toMatchObject({ scope });
    });

    it('two callers with the same key both run, and neither sees the other’s answer', async () => {
      const key = newKey();
      const [ann, bob] = [await pay({ id: 'ann' }, key), await pay({ id: 'bob' }, key)];
      const [annAgain, bobAgain] = [await pay({ id: 'ann' }, key), await pay({ id: 'bob' }, key)];
      expect([isReplay(ann), isReplay(bob), isReplay(annAgain), isReplay(bobAgain)]).toEqual([false, false, true, true]);
      expect(runOf(ann)).not.toBe(runOf(bob));
      expect([runOf(annAgain), runOf(bobAgain)]).toEqual([runOf(ann), runOf(bob)]);
      expect(await shared.records(key)).toBe(2);
    });

    it('user 42 and subject 42 are two callers', async () => {
      const key = newKey();
      const runs = [await pay({ id: 42 }, key), await pay({ sub: '42' }, key), await pay({ userId: 42 }, key)].map(runOf);
      expect(new Set(runs).size).toBe(3);
    });

    it('a caller who is known is never one of the anonymous', async () => {
      const key = newKey();
      const anonymous = await send(`${app.url}/payments`, { key });
      expect(runOf(await pay({ id: 'ann' }, key))).not.toBe(runOf(anonymous));
    });

    it.each([[{}], [{ name: 'Ann' }], [{ id: '' }], [{ id: null }], [{ id: { value: 1 } }], [{ id: 1e300 }], ['ann']])(
      '%j tells nobody, and nothing runs',
      async (user) => {
        const [key, before] = [newKey(), ledger.total];
        const answer = await pay(user, key);
        expect([answer.status, codeOf(answer), ledger.total, await shared.records(key)]).toEqual([
          500,
          'IDEMPOTENCY_SCOPE_REQUIRED',
          before,
          0,
        ]);
        expect(journal.own('error').join('\n')).toContain('scope');
      },
    );

    it('an Authorization header without a user is refused, and only the log says what to do about it', async () => {
      const [key, before] = [newKey(), ledger.total];
      const answer = await send(`${app.url}/payments`, { key, headers: { authorization: 'Bearer s3cr3t-token' } });
      expect([answer.status, codeOf(answer), ledger.total]).toEqual([500, 'IDEMPOTENCY_SCOPE_REQUIRED', before]);
      expect(journal.own('error').join('\n')).toMatch(/Accounts\.pay: IDEMPOTENCY_SCOPE_REQUIRED\..*guard/);
      expect(answer.text).not.toMatch(/guard|scope:|request\.user/);
      expect(journal.lines.join('\n')).not.toMatch(new RegExp(`s3cr3t|${key}`));
    });

    it('needs no scope where no key came', async () => {
      expect((await send(`${app.url}/payments`, { headers: { authorization: 'Bearer s3cr3t-token' } })).status).toBe(201);
    });
  });

  it('nobody at all is one shared space, which is warned of once for each handler', async () => {
    await shared.within(platform, parts(), async ({ url }) => {
      const key = newKey();
      const first = await send(`${url}/payments`, { key });
      const second = await send(`${url}/payments`, { key });
      expect([isReplay(second), json(first)]).toEqual([true, expect.objectContaining({ scope: '' })]);
      expect(journal.own('warn').filter((line) => line.includes('Accounts.pay'))).toHaveLength(1);
      await send(`${url}/transfers`, { key: newKey() });
      await send(`${url}/transfers`, { key: newKey() });
      expect(journal.own('warn').filter((line) => line.includes('Accounts.transfer'))).toHaveLength(1);
      expect(journal.lines.join('\n')).not.toContain(key);
    });
  });

  it.each<[how: string, scope: NonNullable<IdempotencyModuleOptions['scope']>]>([
    ['a function', ({ headers }) => headers?.['x-tenant'] as string | undefined],
    ['a promise', async ({ headers }) => Promise.resolve(headers?.['x-tenant'] as string | undefined)],
  ])('is what %s of the request says', async (_how, scope) => {
    await shared.within(platform, parts({ scope }), async ({ url }) => {
      const key = newKey();
      const pay = (tenant?: string): Promise<Answer> =>
        send(`${url}/payments`, { key, headers: tenant === undefined ? as({ id: 'ann' }) : { 'x-tenant': tenant } });
      const [north, south, northAgain] = [await pay('north'), await pay('south'), await pay('north')];
      expect(json(north)).toMatchObject({ scope: 'north' });
      expect(runOf(south)).not.toBe(runOf(north));
      expect([isReplay(northAgain), runOf(northAgain)]).toEqual([true, runOf(north)]);
      const [nobody, before] = [await pay(), ledger.total];
      expect([nobody.status, codeOf(nobody), ledger.total]).toEqual([500, 'IDEMPOTENCY_SCOPE_REQUIRED', before]);
      expect(journal.own('error').join('\n')).toContain('The scope function returned undefined');
    });
  });

  it('is refused where the function fails, without a run', async () => {
    const scope = (): string => {
      throw new Error('the directory is away');
    };
    await shared.within(platform, parts({ scope }), async ({ url }) => {
      const [key, before] = [newKey(), ledger.total];
      expect((await send(`${url}/payments`, { key })).status).toBe(500);
      expect([ledger.total, await shared.records(key)]).toEqual([before, 0]);
    });
  });

  it('is everybody’s with scope: false, without a warning', async () => {
    await shared.within(platform, parts({ scope: false }), async ({ url }) => {
      const key = newKey();
      const first = await send(`${url}/payments`, { key, headers: as({ id: 'ann' }) });
      const second = await send(`${url}/payments`, { key, headers: { authorization: 'Bearer x' } });
      expect([isReplay(second), runOf(second), json(first)]).toEqual([true, runOf(first), expect.objectContaining({ scope: '' })]);
      expect(journal.own()).toEqual([]);
    });
  });
});
