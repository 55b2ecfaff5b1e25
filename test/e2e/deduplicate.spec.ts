import { afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { BadRequestException, Controller, Post, Redirect, UploadedFile, UseInterceptors, Version, VersioningType } from '@nestjs/common';
import type { Type } from '@nestjs/common';
import * as expressPlatform from '@nestjs/platform-express';
import * as fastifyPlatform from '@nestjs/platform-fastify';
import { CurrentExecution, Deduplicate, Idempotent, IdempotencyEvents, IdempotencyService } from '../../lib/index.js';
import type { IdempotencyEvent, IdempotencyModuleOptions, IdempotentExecution } from '../../lib/index.js';
import { Pool } from 'pg';
import { PLATFORMS } from '../support/app.js';
import type { Platform, RunningApp } from '../support/app.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import type { TcpProxy } from '../support/tcp-proxy.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { as, believingGuard } from './support/callers.js';
import { Play, Script } from './support/desk.js';
import type { Played } from './support/desk.js';
import { Journal } from './support/journal.js';
import { redirect, sinceNest12 } from './support/platform-response.js';
import { essence } from './support/replays.js';
import { Stage, until } from './support/stage.js';
import { codeOf, field, isReplay, json, send } from './support/wire.js';
import type { Answer } from './support/wire.js';

const shared = bench();

@Controller()
class Forms {
  @Deduplicate({ window: '10m' })
  @Post('contact')
  contact(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Deduplicate({ window: '10m' })
  @Post('complaints')
  complain(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Deduplicate({ window: '10m', answer: 'replay' })
  @Post('votes')
  vote(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Deduplicate({ window: '10m', fingerprint: (request: { body: { text: string } }) => request.body.text })
  @Post('comments')
  comment(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Deduplicate({ window: '10m', scope: false })
  @Post('anybody')
  anybody(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Deduplicate({ window: '100ms' })
  @Post('brief')
  brief(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Deduplicate({ window: '10m', onStoreFailure: 'bypass' })
  @Post('rather-twice')
  ratherTwice(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Deduplicate({ window: '10m' })
  @Post('form')
  @Redirect('/thanks', 303)
  form(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): void {
    void script.by(execution);
  }

  @Idempotent({ keyFrom: { param: 'id' } })
  @Post('contact/:id')
  keyed(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }
}

@Controller()
class Versions {
  @Deduplicate({ window: '10m', fingerprint: () => 'the same' })
  @Version('1')
  @Post('things')
  one(): object {
    return { version: 1 };
  }

  @Deduplicate({ window: '10m', fingerprint: () => 'the same' })
  @Version('2')
  @Post('things')
  two(): object {
    return { version: 2 };
  }
}

const DUPLICATE = 'IDEMPOTENCY_DUPLICATE_REQUEST';
const outcome = (answer: Answer): unknown =>
  answer.status < 400 ? (isReplay(answer) ? 'replay' : answer.status) : (codeOf(answer) ?? answer.status);
const said = new Script(({ run }) => ({ run }));

/** A caller of whom there is no other record, and who says what nobody has said. */
let caller: string;
let body: { text: string; at?: number };

interface Row {
  readonly operation: string;
  readonly key: string;
  readonly state: number;
  readonly attempt: number;
  readonly size: number | null;
  readonly headers: Buffer | null;
  /** Milliseconds. */
  readonly kept: number;
}

async function rows(): Promise<Row[]> {
  const { rows: found } = await shared.database().pool.query<Row>(
    `select operation, key, state, attempt, length(body) as size, headers,
            extract(epoch from expires_at - completed_at)::float8 * 1000 as kept
       from idempotency_records where scope = $1`,
    [`id=${caller}`],
  );
  return found;
}

/** As if that much time had passed. */
async function pass(time: string): Promise<void> {
  await shared.database().pool.query(
    `update idempotency_records
        set created_at = created_at - $2::interval, reap_after = reap_after - $2::interval,
            completed_at = completed_at - $2::interval, expires_at = expires_at - $2::interval
      where scope = $1`,
    [`id=${caller}`, time],
  );
}

async function loseLease(): Promise<void> {
  await shared
    .database()
    .pool.query(`update idempotency_records set locked_until = statement_timestamp() - interval '1 second' where scope = $1`, [
      `id=${caller}`,
    ]);
}

/** Resolves when that many milliseconds have passed by this process's clock. */
async function atLeast(ms: number): Promise<object> {
  const start = performance.now();
  await until(() => performance.now() - start >= ms);
  return {};
}

beforeEach(() => {
  caller = newKey();
  body = { text: newKey() };
});

describe.each(PLATFORMS)('@Deduplicate on %s', (platform) => {
  const stage = new Stage();
  let app: RunningApp;
  const parts = {
    controllers: [Forms],
    configure: (nest: RunningApp['app']) => void nest.useGlobalGuards(believingGuard),
  };
  beforeAll(async () => {
    app = await shared.start(platform, parts);
  });
  afterEach(() => stage.openAll());

  const ask = (path: string, script = said, sent: { body?: unknown; as?: string; url?: string; method?: string } = {}): Promise<Answer> =>
    script.send(`${sent.url ?? app.url}${path}`, { body: sent.body ?? body, headers: as({ id: sent.as ?? caller }) });

  it('lets one of two that come at once run, and refuses the other with 409 and the rest of the window', async () => {
    const script = new Script(async ({ run }) => {
      await stage.stopAt(caller);
      return { run };
    });
    const both = [ask('/contact', script), ask('/contact', script)];
    const duplicate = await Promise.race(both); // the other one is on the stage
    expect([duplicate.status, codeOf(duplicate)]).toEqual([409, DUPLICATE]);
    expect(Number(field(duplicate, 'retry-after'))).toBeCloseTo(600, -2);
    expect(field(duplicate, 'content-type')).toMatch(/^application\/problem\+json/);
    stage.open(caller);
    expect(new Set((await Promise.all(both)).map(outcome))).toEqual(new Set([201, DUPLICATE]));
    expect(script.runs).toBe(1);
  });

  it('refuses it within the window, tells the rest of that by the database’s clock, and runs it afterwards', async () => {
    expect(outcome(await ask('/contact'))).toBe(201);
    await pass('7 minutes');
    const refused = await ask('/contact');
    expect(outcome(refused)).toBe(DUPLICATE);
    const left = Number(field(refused, 'retry-after'));
    expect([left > 120, left <= 180]).toEqual([true, true]);
    await pass('3 minutes');
    expect(outcome(await ask('/contact'))).toBe(201);
    expect(outcome(await ask('/contact'))).toBe(DUPLICATE);
  });

  it('counts the window from the start of the first one, not from its end', async () => {
    const script = new Script(() => atLeast(300));
    expect(outcome(await ask('/contact', script))).toBe(201);
    const [row] = await rows();
    expect(row!.kept).toBeLessThanOrEqual(600_000 - 300);
  });

  it('blocks beyond the window while the first one runs, and not after that', async () => {
    const script = new Script(async ({ run }) => {
      if (run === 1) await Promise.all([stage.stopAt(caller), atLeast(150)]);
      return { run };
    });
    const first = ask('/brief', script);
    await stage.reached(caller);
    await pass('1 hour');
    const refused = await ask('/brief', script);
    expect([outcome(refused), field(refused, 'retry-after')]).toEqual([DUPLICATE, '1']);
    stage.open(caller);
    expect(outcome(await first)).toBe(201);
    expect((await rows())[0]!.kept).toBeLessThan(50);
    await pass('1 second');
    expect(outcome(await ask('/brief', script))).toBe(201);
    expect(script.runs).toBe(2);
  });

  it.each<[what: string, work: (run: number) => unknown, status: number]>([
    ['throws', () => Promise.reject(new Error('mail server away')), 500],
    ['refuses what it was told', () => Promise.reject(new BadRequestException()), 400],
  ])('is free at once when the first one %s', async (_what, fail, status) => {
    const script = new Script(({ run }) => (run === 1 ? fail(run) : { run }));
    expect((await ask('/contact', script)).status).toBe(status);
    expect(await rows()).toEqual([]);
    expect(outcome(await ask('/contact', script))).toBe(201);
  });

  it('counts a redirect as done', async () => {
    expect((await ask('/form')).status).toBe(303);
    expect(outcome(await ask('/form'))).toBe(DUPLICATE);
  });

  it('takes another caller, another body or another route for another request', async () => {
    expect(outcome(await ask('/contact'))).toBe(201);
    expect(outcome(await ask('/contact', said, { as: newKey() }))).toBe(201);
    expect(outcome(await ask('/contact', said, { body: { text: newKey() } }))).toBe(201);
    expect(outcome(await ask('/contact?copy=me'))).toBe(201);
    expect(outcome(await ask('/complaints'))).toBe(201);
    expect(outcome(await ask('/contact'))).toBe(DUPLICATE);
  });

  it('takes it for the same however its JSON is spelt, and whatever key it brings along', async () => {
    expect(outcome(await ask('/contact', said, { body: { a: 1, b: [2] } }))).toBe(201);
    const respelt = {
      headers: { ...as({ id: caller }), 'content-type': 'application/json' },
      body: '{ "b":[2],  "a":1.0 }',
      key: newKey(),
    };
    expect(outcome(await said.send(`${app.url}/contact`, respelt))).toBe(DUPLICATE);
  });

  it('compares what the fingerprint function returns, beside method and path', async () => {
    expect(outcome(await ask('/comments', said, { body: { ...body, at: 1 } }))).toBe(201);
    expect(outcome(await ask('/comments', said, { body: { ...body, at: 2 } }))).toBe(DUPLICATE);
    expect(outcome(await ask('/comments', said, { body: { text: newKey(), at: 1 } }))).toBe(201);
  });

  it('counts all callers as one with a scope of false', async () => {
    expect(outcome(await ask('/anybody'))).toBe(201);
    expect(outcome(await ask('/anybody', said, { as: newKey() }))).toBe(DUPLICATE);
  });

  it('keeps no answer, in a space of its own', async () => {
    expect(outcome(await ask('/contact'))).toBe(201);
    const [row] = await rows();
    expect(row).toMatchObject({ operation: 'deduplicate POST /contact', size: null, headers: null });
    expect(row!.key).toMatch(/^[0-9a-f]{64}$/);
    const service = app.app.get(IdempotencyService);
    expect(await service.find({ scope: `id=${caller}`, operation: row!.operation, key: row!.key })).toMatchObject({
      state: 'sealed',
      status: 201,
    });
    // A natural key of that very text on the same route is somebody else.
    expect(outcome(await ask(`/contact/${row!.key}`))).toBe(201);
    expect(outcome(await ask(`/contact/${row!.key}`))).toBe('replay');
  });

  it('tells its events, without what was said', () =>
    shared.within(platform, { ...parts, create: { logger: new Journal() } }, async ({ app: nest, url }) => {
      const events: IdempotencyEvent[] = [];
      nest.get(IdempotencyEvents).events$.subscribe((event) => events.push(event));
      await ask('/contact', said, { url });
      await ask('/contact', said, { url });
      expect(events.map(({ type, handler, code }) => [type, handler, code])).toEqual([
        ['claimed', 'Forms.contact', undefined],
        ['sealed', 'Forms.contact', undefined],
        ['rejected', 'Forms.contact', DUPLICATE],
      ]);
      expect(JSON.stringify(events)).not.toContain(body.text);
    }));

  it('hands out an execution that has no key of the client’s, and keys for others that end with the window', async () => {
    const seen: { key: string | undefined; scope: string; downstream: string }[] = [];
    const script = new Script(({ execution }) => {
      seen.push({ key: execution.key, scope: execution.scope, downstream: execution.keyFor('mail') });
      return {};
    });
    await ask('/contact', script);
    await pass('10 minutes');
    await ask('/contact', script);
    expect(seen.map(({ key, scope }) => [key, scope])).toEqual([
      [undefined, `id=${caller}`],
      [undefined, `id=${caller}`],
    ]);
    expect(seen[0]!.downstream).not.toBe(seen[1]!.downstream);
  });

  it('is taken over when its process is gone, with the same keys for others', async () => {
    const keys: string[] = [];
    const script = new Script(async ({ execution, run }) => {
      keys.push(execution.keyFor('mail'));
      if (run === 1) await stage.stopAt(caller);
      return { attempt: execution.attempt };
    });
    const first = ask('/contact', script);
    await stage.reached(caller);
    await loseLease();
    await shared.within(platform, parts, async (other) => {
      const second = await ask('/contact', script, { url: other.url });
      expect(json(second)).toEqual({ attempt: 2 });
      expect(keys[1]).toBe(keys[0]);
      expect(outcome(await ask('/contact', script, { url: other.url }))).toBe(DUPLICATE);
      stage.open(caller);
      expect(outcome(await first)).toBe(DUPLICATE); // whoever was given up for lost hears how it stands
    });
  });

  it('goes on behind its finished steps when it failed after one', async () => {
    let mails = 0;
    const script = new Script(async ({ execution, run }) => {
      await execution.step('mail', () => ({ sent: ++mails }));
      if (run === 1) throw new Error('the ticket system is away');
      return { mails };
    });
    expect((await ask('/contact', script)).status).toBe(500);
    const answers = await Promise.all([ask('/contact', script), ask('/contact', script)]);
    expect(new Set(answers.map(outcome))).toEqual(new Set([201, DUPLICATE]));
    expect(mails).toBe(1);
  });

  describe("with answer: 'replay'", () => {
    it('gives the first answer again, byte for byte', async () => {
      const script = new Script(({ response, run }) => {
        response.header('etag', '"v1"').header('x-run', String(run));
        return { run, text: 'ä€😀' };
      });
      const first = await ask('/votes', script);
      const again = await ask('/votes', script);
      expect([isReplay(first), isReplay(again)]).toEqual([false, true]);
      expect(essence(again)).toEqual(essence(first));
      expect(script.runs).toBe(1);
      await pass('10 minutes');
      expect(outcome(await ask('/votes', script))).toBe(201);
    });

    it('replays a redirect', async () => {
      const script = new Script(({ response }) => redirect(response, '/thanks', 303));
      await ask('/votes', script);
      expect(field(await ask('/votes', script), 'location')).toBe('/thanks');
    });

    it('refuses it while there is no answer yet, and where it was too large to keep', async () => {
      const script = new Script(async ({ run }) => {
        await stage.stopAt(caller);
        return { run, much: 'x'.repeat(2 * 1024 * 1024) };
      });
      const first = ask('/votes', script);
      await stage.reached(caller);
      expect(outcome(await ask('/votes', script))).toBe(DUPLICATE);
      stage.open(caller);
      expect((await first).status).toBe(201);
      const refused = await ask('/votes', script);
      expect([outcome(refused), Number(field(refused, 'retry-after'))]).toEqual([DUPLICATE, expect.any(Number)]);
    });
  });

  it('keeps the versions of a route apart', () =>
    shared.within(
      platform,
      {
        controllers: [Versions],
        configure(nest) {
          nest.useGlobalGuards(believingGuard);
          nest.enableVersioning({ type: VersioningType.HEADER, header: 'x-version' });
        },
      },
      async ({ url }) => {
        const post = (version: string) => send(`${url}/things`, { headers: { ...as({ id: caller }), 'x-version': version } });
        expect([await post('1'), await post('2'), await post('1')].map(outcome)).toEqual([201, 201, DUPLICATE]);
      },
    ));

  it('takes what it has not been told from the module, but for what is about keys', () => {
    const options: IdempotencyModuleOptions = {
      required: true,
      atomic: true,
      ttl: '1h',
      onLostExecution: 'reject',
      onDuplicate: 'wait',
      fingerprint: () => 'one and the same',
      storeIf: 'all',
      retryAfter: '20s',
      scope: (request: { headers: Record<string, string> }) => request.headers['x-user'],
    };
    return shared
      .within(platform, { ...parts, options }, async ({ url }) => {
        const script = new Script(async ({ run }) => {
          if (run === 1) throw new BadRequestException();
          await stage.stopAt(caller);
          return {};
        });
        expect((await ask('/brief', script, { url })).status).toBe(400); // so its window is closed, whatever storeIf says
        const first = ask('/brief', script, { url });
        await stage.reached(caller);
        const refused = await ask('/brief', script, { url });
        expect([outcome(refused), field(refused, 'retry-after')]).toEqual([DUPLICATE, '20']);
        expect(outcome(await ask('/brief', said, { url, body: { other: newKey() } }))).toBe(201);
        stage.open(caller);
        expect(outcome(await first)).toBe(201);
      })
      .finally(() => stage.openAll());
  });

  it('warns once of callers whom nobody knows, and of no short ttl', async () => {
    const journal = new Journal();
    await shared.within(platform, { ...parts, create: { logger: journal } }, async ({ url }) => {
      const anonymous = () => said.send(`${url}/contact`, { body });
      expect([await anonymous(), await anonymous()].map(outcome)).toEqual([201, DUPLICATE]);
      expect(journal.own('warn')).toEqual([expect.stringMatching(/Forms\.contact: nobody is known to be calling/)]);
      expect(journal.lines.join('\n')).not.toContain(body.text);
    });
  });

  it('refuses a caller who brings a credential that nobody has looked at', async () => {
    const answer = await said.send(`${app.url}/contact`, { body, headers: { authorization: 'Basic eDp5' } });
    expect([answer.status, codeOf(answer)]).toEqual([500, 'IDEMPOTENCY_SCOPE_REQUIRED']);
  });
});

const platforms = PLATFORMS.filter((platform) => platform === 'express' || sinceNest12);

describe.each(platforms)('an upload without a key on %s', (platform) => {
  it('is a duplicate by its parts, under whatever boundary', () =>
    shared.within(platform, { controllers: [uploadsOf(platform)] }, async ({ url }) => {
      const upload = (boundary: string, content: string): Promise<Answer> =>
        send(`${url}/scans`, {
          headers: { 'content-type': `multipart/form-data; boundary=${boundary}` },
          body: [
            `--${boundary}`,
            'Content-Disposition: form-data; name="file"; filename="scan.txt"',
            'Content-Type: text/plain',
            '',
            content,
            `--${boundary}--`,
            '',
          ].join('\r\n'),
        });
      const [mine, other] = [newKey(), newKey()];
      expect([await upload('one', mine), await upload('two', mine), await upload('two', other)].map(outcome)).toEqual([
        201,
        DUPLICATE,
        201,
      ]);
    }));
});

function uploadsOf(platform: Platform): Type {
  const { FileInterceptor } = (platform === 'express' ? expressPlatform : fastifyPlatform) as typeof expressPlatform;
  const ledger = new Ledger();

  @Controller()
  class Uploads {
    @Post('scans')
    @Deduplicate({ window: '10m', scope: false })
    @UseInterceptors(FileInterceptor('file'))
    scan(@UploadedFile() file: { size: number }): object {
      return { run: ledger.run('scan'), size: file.size };
    }
  }
  return Uploads;
}

describe.each(PLATFORMS)('@Deduplicate and Postgres on %s', (platform) => {
  /** An application whose line to Postgres can be listened to, and cut. */
  async function behindProxy(work: (url: string, proxy: TcpProxy) => Promise<void>): Promise<void> {
    const proxy = await startTcpProxy(shared.database().url);
    const options = { pool: new Pool({ connectionString: proxy.url }), storeTimeout: '300ms', scope: () => 'anybody' };
    try {
      await shared.within(platform, { controllers: [Forms], options }, ({ url }) => work(url, proxy));
    } finally {
      await proxy.close();
    }
  }

  it('takes two statements the first time, and one for a duplicate', () =>
    behindProxy(async (url, { statements }) => {
      const before = statements.length; // what was asked at boot
      for (let n = 0; n < 3; n++) await said.send(`${url}/contact`, { body });
      expect(statements.slice(before)).toEqual(['idempotency_claim', 'idempotency_seal', 'idempotency_claim', 'idempotency_claim']);
    }));

  it('refuses with 503 without it, or runs all the same where that was chosen, with keys of its own each time', () =>
    behindProxy(async (url, proxy) => {
      const keys: string[] = [];
      const script = new Script(({ execution }) => {
        keys.push(execution.keyFor('mail'));
        return {};
      });
      proxy.cut();
      const refused = await script.send(`${url}/contact`, { body });
      expect([refused.status, codeOf(refused), script.runs]).toEqual([503, 'IDEMPOTENCY_STORE_UNAVAILABLE', 0]);
      const careless = [await script.send(`${url}/rather-twice`, { body }), await script.send(`${url}/rather-twice`, { body })];
      expect(careless.map(outcome)).toEqual([201, 201]);
      expect(new Set(keys).size).toBe(2);
    }));
});

describe.each(PLATFORMS)('both decorators on one handler on %s', (platform) => {
  it('keep the application from starting', async () => {
    @Controller()
    @Idempotent()
    class Both {
      @Deduplicate({ window: '10m' })
      @Post('both')
      both(): void {}
    }
    await expect(shared.within(platform, { controllers: [Both], create: { abortOnError: false } }, async () => undefined)).rejects.toThrow(
      /@Deduplicate\(\) \(at Both\.both\) stands on a handler of a class that is @Idempotent\(\).*@SkipIdempotency\(\)/,
    );
  });
});
