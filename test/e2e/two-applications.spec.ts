import { describe, expect, it } from '@jest/globals';
import { Controller, Post } from '@nestjs/common';
import { Idempotent, IdempotencyService } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import { createTestDatabase, migrate } from '../support/database.js';
import { bench, newKey } from './support/bench.js';
import { codeOf, isReplay, json, send } from './support/wire.js';

const shared = bench();

describe.each(PLATFORMS)('two applications in one process on %s', (platform) => {
  it('never meet: neither in their records nor in what runs', async () => {
    const otherDatabase = await createTestDatabase();
    await migrate(otherDatabase);
    const seen: Record<string, unknown>[] = [];
    const [services, key] = [{} as Record<'mine' | 'other', IdempotencyService>, newKey()];
    let callOther: () => Promise<unknown> = async () => undefined;

    @Controller()
    class Shop {
      @Idempotent()
      @Post('mine')
      async mine(): Promise<object> {
        const answer = await callOther();
        seen.push({ in: 'mine', mine: services.mine.current()?.key, other: services.other.current()?.key });
        return { of: 'mine', answer };
      }

      @Idempotent()
      @Post('other')
      other(): object {
        seen.push({ in: 'other', mine: services.mine.current()?.key, other: services.other.current()?.key });
        return { of: 'other' };
      }
    }

    try {
      await shared.within(platform, { controllers: [Shop] }, async (mine) =>
        shared.within(platform, { controllers: [Shop], options: { pool: otherDatabase.pool } }, async (other) => {
          services.mine = mine.app.get(IdempotencyService);
          services.other = other.app.get(IdempotencyService);
          callOther = async () => json(await send(`${other.url}/other`, { key }));
          expect(json(await send(`${mine.url}/mine`, { key }))).toEqual({ of: 'mine', answer: { of: 'other' } });
          expect(seen).toEqual([
            { in: 'other', mine: undefined, other: key },
            { in: 'mine', mine: key, other: undefined },
          ]);
          expect(isReplay(await send(`${other.url}/other`, { key }))).toBe(true);
          expect(codeOf(await send(`${mine.url}/other`, { key }))).toBe('IDEMPOTENCY_KEY_REUSED');
          expect(await services.other.forget({ scope: '', key })).toBe(true);
          expect(isReplay(await send(`${mine.url}/mine`, { key }))).toBe(true);
        }),
      );
    } finally {
      await otherDatabase.drop();
    }
  });
});
