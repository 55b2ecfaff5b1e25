import { describe, expect, it } from '@jest/globals';
import { All, Controller, Delete, Get, Patch, Post, Put } from '@nestjs/common';
import type { Type } from '@nestjs/common';
import { Deduplicate, Idempotent, RequireIfMatch, SkipIdempotency } from '../../lib/index.js';
import type { IdempotencyModuleOptions } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import { bench, newKey } from './support/bench.js';
import { Journal } from './support/journal.js';
import { codeOf, send } from './support/wire.js';

const shared = bench();

@Controller('mixed')
class Mixed {
  @Get('read')
  read(): void {}

  @Put('put')
  put(): void {}

  @Delete('delete')
  remove(): void {}

  @Post('post')
  post(): void {}

  @Patch('patch')
  patch(): void {}

  @All('all')
  all(): void {}

  @Post('keyed')
  @Idempotent()
  keyed(): void {}

  @Post('windowed')
  @Deduplicate({ window: '10s' })
  windowed(): void {}

  @Post('skipped')
  @SkipIdempotency()
  skipped(): void {}

  @Patch('conditional')
  @RequireIfMatch()
  conditional(): void {}
}

@Controller('whole')
@Idempotent()
class Whole {
  @Post()
  post(): void {}

  @Post('skipped')
  @SkipIdempotency()
  skipped(): void {}
}

@Controller('conditional')
@RequireIfMatch()
class Conditional {
  @Patch()
  patch(): void {}

  @Post()
  post(): void {}
}

@Controller('all-safe')
class Protected {
  @Post()
  @Idempotent()
  post(): void {}
}

describe.each(PLATFORMS)('warnUnprotected on %s', (platform) => {
  async function warnings(controllers: Type[], options: IdempotencyModuleOptions): Promise<string[]> {
    const journal = new Journal();
    await shared.within(platform, { controllers, options, create: { logger: journal } }, async () => undefined);
    return journal.own('warn');
  }

  it('names, in one line, the handlers that a retry runs once more', async () => {
    const said = await warnings([Mixed, Whole, Conditional, Protected], { warnUnprotected: true });
    expect(said).toEqual([expect.stringMatching(/: Mixed\.post, Mixed\.patch, Mixed\.all, Conditional\.post\. .*@SkipIdempotency\(\)/)]);
  });

  it('says nothing where nothing is unprotected, nor where nobody has asked', async () => {
    expect(await warnings([Whole, Protected], { warnUnprotected: true })).toEqual([]);
    expect(await warnings([Mixed], {})).toEqual([]);
  });
});

@Controller()
class Payments {
  @Post('payments')
  @Idempotent({ scope: (request: { headers: Record<string, string> }) => request.headers['x-caller'] })
  pay(): object {
    return {};
  }
}

describe.each(PLATFORMS)('a client with one key for everything on %s', (platform) => {
  it('is noticed once, after many different requests of whichever caller, and without its key', async () => {
    const journal = new Journal();
    await shared.within(platform, { controllers: [Payments], create: { logger: journal } }, async ({ url }) => {
      const key = newKey();
      const pay = async (n: number) =>
        codeOf(await send(`${url}/payments`, { key, headers: { 'x-caller': `caller ${n % 2}` }, body: { n } }));
      const answers: unknown[] = [];
      for (let n = 0; n < 11; n++) answers.push(await pay(n));
      expect(answers.filter((code) => code === 'IDEMPOTENCY_KEY_REUSED')).toHaveLength(9);
      expect(journal.own('warn')).toEqual([]);
      for (let n = 11; n < 30; n++) await pay(n);
      expect(journal.own('warn')).toEqual([
        expect.stringMatching(/Payments\.pay: 10 different requests .* one and the same key \(digest [0-9a-f]{16}\)/),
      ]);
      expect(journal.lines.join('\n')).not.toContain(key);
    });
  });
});
