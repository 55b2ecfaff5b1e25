/** The recipes in handlers, with keys and without, and what they refuse as a client and a filter meet it. */
import { beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Body, Catch, Controller, HttpException, Param, Post, Put } from '@nestjs/common';
import type { ArgumentsHost, ExceptionFilter } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import {
  CurrentExecution,
  ExpectedVersion,
  IdempotencyException,
  IdempotencyService,
  Idempotent,
  KeyInUse,
  RequireIfMatch,
  VersionETag,
  compareAndSet,
  insertOnce,
  isIdempotencyError,
  updateVersioned,
} from '../../lib/index.js';
import type { IdempotencyModuleOptions, IdempotentExecution, VersionCondition } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { AppParts, RunningApp } from '../support/app.js';
import { barrier } from '../support/barrier.js';
import { bench, newKey } from './support/bench.js';
import { Journal } from './support/journal.js';
import type { PlatformResponse } from './support/platform-response.js';
import { Profile, profiles } from './support/profiles.js';
import { codeOf, field, isReplay, json, send } from './support/wire.js';
import type { Answer, Sent } from './support/wire.js';

const shared = bench();
const ours = profiles(shared);

interface Change {
  readonly name: string;
}

let runs = 0;
/** What a test wants to happen before the handler's first change. */
let before: (() => Promise<unknown>) | undefined;

@Controller('profiles')
class Profiles {
  constructor(private readonly idempotency: IdempotencyService) {}

  @Put('plain/:id')
  @RequireIfMatch()
  @VersionETag((body) => body.version)
  replace(@Param('id') id: string, @Body() change: Change, @ExpectedVersion() expected: VersionCondition): Promise<object> {
    return this.#change(id, change, expected);
  }

  @Put('keyed/:id')
  @Idempotent()
  @RequireIfMatch()
  @VersionETag((body) => body.version)
  keyed(@Param('id') id: string, @Body() change: Change, @ExpectedVersion() expected: VersionCondition): Promise<object> {
    return this.#change(id, change, expected);
  }

  @Put('atomic/:id')
  @VersionETag((body) => body.version)
  @RequireIfMatch()
  @Idempotent({ atomic: { isolation: 'REPEATABLE READ', retries: 1 } })
  atomic(@Param('id') id: string, @Body() change: Change, @ExpectedVersion() expected: VersionCondition): Promise<object> {
    return this.#change(id, change, expected);
  }

  @Put('phases/:id')
  @Idempotent()
  async phases(
    @Param('id') id: string,
    @Body() { name }: Change,
    @ExpectedVersion() expected: VersionCondition,
    @CurrentExecution() execution: IdempotentExecution,
  ): Promise<object> {
    runs += 1;
    const version = await execution.transaction('write', (manager) => updateVersioned(manager, Profile, { id }, expected, { name }));
    return { version };
  }

  @Post('once/:id')
  @Idempotent({ atomic: { isolation: 'REPEATABLE READ', retries: 1 } })
  async once(@Param('id') id: string, @Body() { name }: Change, @CurrentExecution() { manager }: IdempotentExecution): Promise<object> {
    runs += 1;
    await manager.count(Profile);
    await before?.();
    const { row, inserted } = await insertOnce(manager, Profile, { id, name }, { unique: ['id'] });
    return { name: row.name, version: row.version, inserted };
  }

  @Post('rename/:id')
  @Idempotent({ atomic: true })
  async rename(
    @Param('id') id: string,
    @Body() { name, was }: Change & { was: string },
    @CurrentExecution() { manager }: IdempotentExecution,
  ): Promise<object> {
    return { done: await compareAndSet(manager, Profile, { id }, { name: was }, { name }) };
  }

  async #change(id: string, { name }: Change, expected: VersionCondition): Promise<object> {
    runs += 1;
    const { manager } = this.idempotency;
    await manager.count(Profile);
    await before?.();
    const version = await updateVersioned(manager, Profile, { id }, expected, { name });
    return { id, name, version };
  }
}

@Controller()
class Others {
  @Put('expected')
  expected(@ExpectedVersion() expected: VersionCondition): object {
    return { expected };
  }

  @Put('misused')
  async misused(): Promise<void> {
    await updateVersioned(ours.dataSource().manager, Profile, {}, '*', { name: 'everybody' });
  }

  @Put('in-use')
  inUse(): never {
    throw new KeyInUse(2000);
  }
}

beforeEach(() => {
  runs = 0;
  before = undefined;
});

describe.each(PLATFORMS)('on %s', (platform) => {
  const journal = new Journal();
  const parts = (options: IdempotencyModuleOptions = {}): AppParts => ({
    controllers: [Profiles, Others],
    options: { pool: undefined, dataSource: ours.dataSource(), ...options },
    create: { logger: journal },
  });
  let app: RunningApp;
  beforeAll(async () => {
    app = await shared.start(platform, parts());
  });

  const put = (path: string, ifMatch?: string, sent: Sent = {}): Promise<Answer> =>
    send(`${app.url}${path}`, {
      method: 'PUT',
      body: { name: 'Grace' },
      ...sent,
      headers: ifMatch === undefined ? {} : { 'if-match': ifMatch },
    });

  describe.each(['plain', 'keyed', 'atomic', 'phases'])('updateVersioned in a handler (%s)', (way) => {
    const path = (id: string): string => `/profiles/${way}/${id}`;

    it('changes what the client has seen, and answers with the new version', async () => {
      const id = await ours.make();
      const answer = await put(path(id), '"1"', { key: newKey() });
      expect([answer.status, json(answer)]).toMatchObject([200, { version: 2 }]);
      if (way !== 'phases') expect(field(answer, 'etag')).toBe('"2"');
      expect(await ours.read(id)).toMatchObject({ name: 'Grace', version: 2 });
    });

    it('answers 412 for another version, and for what is not there', async () => {
      const id = await ours.make();
      for (const answer of [await put(path(id), '"2", "3"', { key: newKey() }), await put(path(randomUUID()), '*', { key: newKey() })]) {
        expect([answer.status, codeOf(answer)]).toEqual([412, 'PRECONDITION_FAILED']);
        expect(field(answer, 'etag') ?? 'none').toMatch(/^none$|^W\//); // Express tags what it likes, but weakly
      }
      expect(await ours.read(id)).toMatchObject({ name: 'Ada', version: 1 });
    });

    it('loses neither of two editors at once', async () => {
      const id = await ours.make();
      if (way !== 'phases') {
        const gate = barrier(2);
        let waiting = 2;
        before = async () => (waiting-- > 0 ? gate.arrive() : undefined); // a repeated handler goes straight on
      }
      const answers = await Promise.all(['Grace', 'Joan'].map((name) => put(path(id), '"1"', { key: newKey(), body: { name } })));
      expect(answers.map(({ status }) => status).toSorted((one, other) => one - other)).toEqual([200, 412]);
      const won = answers.findIndex(({ status }) => status === 200);
      expect(await ours.read(id)).toMatchObject({ name: ['Grace', 'Joan'][won], version: 2 });
    });
  });

  describe.each(['keyed', 'atomic', 'phases'])('with a key (%s)', (way) => {
    it('replays the success, tag and all, though the version has moved on', async () => {
      const [id, key] = [await ours.make(), newKey()];
      const first = await put(`/profiles/${way}/${id}`, '"1"', { key });
      await put(`/profiles/${way}/${id}`, '"2"', { key: newKey() });
      const again = await put(`/profiles/${way}/${id}`, '"1"', { key });
      expect([again.status, again.text, field(again, 'etag'), isReplay(again)]).toEqual([200, first.text, field(first, 'etag'), true]);
      expect([runs, (await ours.read(id)).version]).toEqual([2, 3]);
    });

    it('keeps 412 as any answer of the handler', async () => {
      const [id, key] = [await ours.make(), newKey()];
      const first = await put(`/profiles/${way}/${id}`, '"2"', { key });
      await put(`/profiles/${way}/${id}`, '"1"', { key: newKey() });
      const again = await put(`/profiles/${way}/${id}`, '"2"', { key });
      expect([again.status, again.text, isReplay(again), runs]).toEqual([412, first.text, true, 2]);
      expect(field(again, 'content-type')).toBe(field(first, 'content-type'));
    });
  });

  describe('in an atomic handler with retries', () => {
    it('answers 412 when the version moved on after the transaction had begun', async () => {
      const id = await ours.make();
      before = async () => (runs === 1 ? ours.dataSource().manager.increment(Profile, { id }, 'version', 1) : undefined);
      const answer = await put(`/profiles/atomic/${id}`, '"1"', { key: newKey() });
      expect([answer.status, codeOf(answer), runs]).toEqual([412, 'PRECONDITION_FAILED', 2]);
    });

    it('finds a row that was committed after the transaction had begun', async () => {
      const id = randomUUID();
      before = async () => (runs === 1 ? ours.dataSource().manager.insert(Profile, { id, name: 'Ada' }) : undefined);
      const answer = await send(`${app.url}/profiles/once/${id}`, { key: newKey(), body: { name: 'Grace' } });
      expect([answer.status, json(answer), runs]).toEqual([201, { name: 'Ada', version: 1, inserted: false }, 2]);
    });

    it('inserts, and commits with the record', async () => {
      const [id, key] = [randomUUID(), newKey()];
      const [first, again] = [
        await send(`${app.url}/profiles/once/${id}`, { key, body: { name: 'Grace' } }),
        await send(`${app.url}/profiles/once/${id}`, { key, body: { name: 'Grace' } }),
      ];
      expect(json(first)).toEqual({ name: 'Grace', version: 1, inserted: true });
      expect([again.text, isReplay(again)]).toEqual([first.text, true]);
    });

    it('compares and sets', async () => {
      const id = await ours.make();
      const rename = (was: string, name: string): Promise<Answer> =>
        send(`${app.url}/profiles/rename/${id}`, { key: newKey(), body: { was, name } });
      expect([json(await rename('Ada', 'Grace')), json(await rename('Ada', 'Joan'))]).toEqual([{ done: true }, { done: false }]);
      expect(await ours.read(id)).toMatchObject({ name: 'Grace', version: 2 });
    });
  });

  describe.each(['problem', 'nest'] as const)('in errorFormat %s', (errorFormat) => {
    const seen: unknown[] = [];

    @Catch(HttpException)
    class Filter implements ExceptionFilter {
      catch(error: HttpException, host: ArgumentsHost): void {
        seen.push(error);
        const response = host.switchToHttp().getResponse<PlatformResponse>();
        response.status(error.getStatus());
        response.send(error.getResponse());
      }
    }

    const provoke: [code: string, status: number, path: (id: string) => string, ifMatch: string | undefined][] = [
      ['PRECONDITION_REQUIRED', 428, (id) => `/profiles/plain/${id}`, undefined],
      ['PRECONDITION_REQUIRED', 428, () => '/expected', undefined],
      ['PRECONDITION_INVALID', 400, (id) => `/profiles/keyed/${id}`, 'x'],
      ['PRECONDITION_FAILED', 412, (id) => `/profiles/plain/${id}`, '"9"'],
      ['PRECONDITION_FAILED', 412, (id) => `/profiles/keyed/${id}`, '"9"'],
      ['PRECONDITION_FAILED', 412, (id) => `/profiles/atomic/${id}`, '"9"'],
      ['IDEMPOTENCY_KEY_IN_USE', 409, () => '/in-use', undefined],
    ];

    it.each(provoke)('answers %s by %i', (code, status, path, ifMatch) =>
      shared.within(platform, parts({ errorFormat }), async ({ url }) => {
        const headers = ifMatch === undefined ? {} : { 'if-match': ifMatch };
        const answer = await send(`${url}${path(await ours.make())}`, { method: 'PUT', body: { name: 'Grace' }, headers, key: newKey() });
        const type = errorFormat === 'problem' ? 'application/problem+json' : 'application/json';
        expect(answer.status).toBe(status);
        expect(field(answer, 'content-type')).toMatch(type);
        expect(field(answer, 'cache-control')).toBe('no-store');
        expect(json(answer)).toMatchObject(
          errorFormat === 'problem'
            ? { type: expect.stringContaining(code.toLowerCase()), title: expect.any(String), status, detail: expect.any(String), code }
            : { statusCode: status, error: expect.any(String), code, message: expect.any(String) },
        );
      }),
    );

    it('reaches an application’s own filters as an HttpException', async () => {
      const configure: AppParts['configure'] = (nest) => void nest.useGlobalFilters(new Filter());
      await shared.within(platform, { ...parts({ errorFormat }), configure }, async ({ url }) => {
        for (const [code, status, path, ifMatch] of provoke) {
          const headers = ifMatch === undefined ? {} : { 'if-match': ifMatch };
          const answer = await send(`${url}${path(await ours.make())}`, { method: 'PUT', body: { name: 'Grace' }, headers, key: newKey() });
          const error = seen.pop();
          expect([answer.status, codeOf(answer)]).toEqual([status, code]);
          expect(error).toBeInstanceOf(IdempotencyException);
          expect(isIdempotencyError((error as Error).cause)).toBe(true);
        }
      });
    });
  });

  it('tells a client nothing of a recipe that was misused, and the log all', async () => {
    const answer = await put('/misused');
    expect([answer.status, answer.text.includes('Profile')]).toEqual([500, false]);
    expect(journal.lines.join('\n')).toMatch(/updateVersioned changes one row, and its where may fit several/);
  });
});
