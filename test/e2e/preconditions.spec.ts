/** Entity tags and the conditions that name them, as a client meets them. */
import { beforeAll, describe, expect, it } from '@jest/globals';
import {
  Controller,
  Get,
  Header,
  HttpCode,
  Module,
  NotFoundException,
  Param,
  Patch,
  Post,
  Put,
  Render,
  Res,
  StreamableFile,
  UnauthorizedException,
  UseInterceptors,
} from '@nestjs/common';
import type { CallHandler, CanActivate, ExecutionContext, NestInterceptor } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { randomUUID } from 'node:crypto';
import type { OutgoingHttpHeaders } from 'node:http';
import { Readable } from 'node:stream';
import { map, of } from 'rxjs';
import type { Observable } from 'rxjs';
import { ExpectedVersion, Idempotent, RequireIfMatch, VersionETag } from '../../lib/index.js';
import type { IdempotencyModuleOptions, VersionCondition } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { RunningApp } from '../support/app.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { Journal } from './support/journal.js';
import { madeViews, withViews } from './support/platform-response.js';
import type { PlatformResponse } from './support/platform-response.js';
import { Profile, profiles } from './support/profiles.js';
import { codeOf, field, json, send } from './support/wire.js';
import type { Answer, Sent } from './support/wire.js';

const shared = bench();
const ours = profiles(shared);
const ledger = new Ledger();

/** A list is sent as several lines, also of fields that Node's types have once. */
type Fields = Record<string, string | string[]>;

@Controller('profiles')
class Profiles {
  @Get(':id')
  @Header('Cache-Control', 'private, max-age=0')
  @VersionETag((profile: Profile) => profile.version)
  read(@Param('id') id: string): Promise<Profile> {
    return ours.read(id);
  }

  @Put(':id')
  @RequireIfMatch()
  replace(@Param('id') id: string): object {
    return { run: ledger.run(id) };
  }

  @Put('keyed/:id')
  @Idempotent()
  @RequireIfMatch()
  keyed(@Param('id') id: string): object {
    return { run: ledger.run(id) };
  }
}

/** Wraps every answer, as applications do. */
class Envelope implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(map((data: unknown) => ({ data })));
  }
}

@Controller('tags')
@UseInterceptors(Envelope)
class Tags {
  @Get('wrapped')
  @VersionETag((body) => body.version)
  wrapped(): object {
    return { version: 3 };
  }

  @Get('stream-of-values')
  @VersionETag((body) => body.version)
  observable(): Observable<object> {
    return of({ version: 2 }, { version: 3 });
  }

  @Get('own')
  @VersionETag((body) => body.version)
  own(@Res({ passthrough: true }) response: PlatformResponse): object {
    response.header('ETag', 'W/"mine"');
    return { version: 3 };
  }

  @Get('text')
  @VersionETag((body: { digest: string }) => body.digest)
  text(): object {
    return { digest: 'a1b2,c3' };
  }

  @Get('bad')
  @VersionETag((body: { name: string }) => body.name)
  bad(): object {
    return { name: 'Über "alles"' };
  }

  @Get('missing')
  @VersionETag((body) => body.version)
  missing(): object {
    throw new NotFoundException();
  }

  @Get('accepted')
  @HttpCode(202)
  @VersionETag((body) => body.version)
  accepted(): object {
    return { version: 3 };
  }

  @Get('teapot')
  @VersionETag((body) => body.version)
  teapot(@Res({ passthrough: true }) response: PlatformResponse): object {
    response.status(418);
    return { version: 3 };
  }

  @Post('made')
  @VersionETag((body) => body.version)
  made(): object {
    return { version: 3 };
  }
}

const files: Readable[] = [];

@Controller()
class Others {
  @Get('file')
  @VersionETag(() => 3)
  file(): StreamableFile {
    const file = new Readable({ read: () => undefined });
    files.push(file);
    return new StreamableFile(file);
  }

  @Get('view')
  @Render('receipt.hbs')
  @VersionETag((body: { number: number }) => body.number)
  view(): object {
    return { number: 7, name: 'Ann' };
  }

  @Get('nothing')
  @VersionETag((body) => body.version)
  nothing(): void {
    // there is nothing to tag
  }

  @Put('expected')
  expected(@ExpectedVersion() expected: VersionCondition): object {
    return { expected };
  }
}

@Controller('whole')
@RequireIfMatch()
class Whole {
  @Get()
  read(): object {
    return {};
  }

  @Post()
  make(): object {
    return {};
  }

  @Post('explicit')
  @RequireIfMatch()
  explicit(): object {
    return {};
  }

  @Put()
  replace(): object {
    return {};
  }

  @Patch()
  change(): object {
    return {};
  }
}

/** Nobody comes in who says so. */
const doorkeeper: CanActivate = {
  canActivate(context: ExecutionContext): boolean {
    const { headers } = context.switchToHttp().getRequest<{ headers: Record<string, string | undefined> }>();
    if (headers['x-stranger'] !== undefined) throw new UnauthorizedException();
    return true;
  },
};

describe.each(PLATFORMS)('on %s', (platform) => {
  const journal = new Journal();
  let app: RunningApp;
  beforeAll(async () => {
    app = await shared.start(platform, {
      controllers: [Profiles, Tags, Others, Whole],
      create: { logger: journal },
      configure(nest) {
        nest.useGlobalGuards(doorkeeper);
        withViews(nest, platform);
      },
    });
  });

  const get = (path: string, headers: Fields = {}, method = 'GET'): Promise<Answer> =>
    send(`${app.url}${path}`, { method, headers: headers as OutgoingHttpHeaders });

  const put = (path: string, ifMatch?: string | string[], sent: Sent = {}): Promise<Answer> =>
    send(`${app.url}${path}`, {
      method: 'PUT',
      body: { name: 'Grace' },
      ...sent,
      headers: { ...(ifMatch === undefined ? {} : ({ 'if-match': ifMatch } as Fields)), ...sent.headers } as OutgoingHttpHeaders,
    });

  describe('@VersionETag()', () => {
    it('tags an answer by the version of what the handler returned', async () => {
      const id = await ours.make();
      const answer = await get(`/profiles/${id}`);
      expect([answer.status, answer.headers['etag']]).toEqual([200, ['"1"']]);
      expect(json(answer)).toEqual({ id, name: 'Ada', version: 1 });
    });

    it.each([['"1"'], ['W/"1"'], ['"0", "1"'], ['*'], [['"7"', '"1"']]])(
      'answers If-None-Match: %s by 304 without a body',
      async (tags) => {
        const id = await ours.make();
        const answer = await get(`/profiles/${id}`, { 'if-none-match': tags });
        expect(answer).toMatchObject({ status: 304, text: '' });
        expect(answer.headers).toMatchObject({ etag: ['"1"'], 'cache-control': ['private, max-age=0'] });
        expect(answer.headers).not.toHaveProperty('content-type');
        expect(answer.headers).not.toHaveProperty('content-length');
      },
    );

    it('does so for a client that wants nobody’s cache, as fetch says with every If-None-Match', async () => {
      const id = await ours.make();
      expect((await get(`/profiles/${id}`, { 'if-none-match': '"1"', 'cache-control': 'no-cache' })).status).toBe(304);
    });

    it.each([['"2"'], ['"11"'], ['1'], ['']])('answers If-None-Match: %s in full', async (tags) => {
      const id = await ours.make();
      const answer = await get(`/profiles/${id}`, { 'if-none-match': tags });
      expect([answer.status, json(answer)]).toEqual([200, { id, name: 'Ada', version: 1 }]);
    });

    it('treats HEAD as GET', async () => {
      const id = await ours.make();
      const [whole, known] = [await get(`/profiles/${id}`, {}, 'HEAD'), await get(`/profiles/${id}`, { 'if-none-match': '"1"' }, 'HEAD')];
      expect([whole.status, field(whole, 'etag'), whole.text]).toEqual([200, '"1"', '']);
      expect([known.status, field(known, 'etag')]).toEqual([304, '"1"']);
    });

    it('asks a copy about no other method', async () => {
      const answer = await send(`${app.url}/tags/made`, { headers: { 'if-none-match': '"3"' }, body: {} });
      expect([answer.status, field(answer, 'etag'), json(answer)]).toEqual([201, '"3"', { data: { version: 3 } }]);
    });

    it.each([['wrapped'], ['stream-of-values']])('sees what the handler returned, before other interceptors do (%s)', async (path) => {
      const [whole, known] = [await get(`/tags/${path}`), await get(`/tags/${path}`, { 'if-none-match': '"3"' })];
      expect([field(whole, 'etag'), json(whole)]).toEqual(['"3"', { data: { version: 3 } }]);
      expect([known.status, known.text, field(known, 'content-type'), field(known, 'content-length')]).toEqual([
        304,
        '',
        undefined,
        undefined,
      ]);
    });

    it('takes text for a version', async () => {
      expect(field(await get('/tags/text'), 'etag')).toBe('"a1b2,c3"');
      expect((await get('/tags/text', { 'if-none-match': '"x", "a1b2,c3"' })).status).toBe(304);
    });

    it('leaves an ETag alone that the handler has set, and compares with that', async () => {
      expect((await get('/tags/own')).headers['etag']).toEqual(['W/"mine"']);
      expect((await get('/tags/own', { 'if-none-match': '"mine"' })).status).toBe(304);
      expect((await get('/tags/own', { 'if-none-match': '"3"' })).status).toBe(200);
    });

    it('tags every success', async () => {
      expect([(await get('/tags/accepted')).status, field(await get('/tags/accepted'), 'etag')]).toEqual([202, '"3"']);
    });

    it.each([
      ['an error', 'missing', 404],
      ['a status that is no success', 'teapot', 418],
    ])('tags no answer of %s', async (_, path, status) => {
      const answer = await get(`/tags/${path}`, { 'if-none-match': '"3"' });
      expect([answer.status, field(answer, 'etag') === '"3"']).toEqual([status, false]);
    });

    it('tags no answer without content', async () => {
      expect(await get('/nothing')).toMatchObject({ status: 200, text: '' });
    });

    it('lets an answer go without a tag whose version can’t be one, and says why in the log', async () => {
      const answer = await get('/tags/bad');
      expect([answer.status, field(answer, 'etag')?.startsWith('"') ?? false]).toEqual([200, false]);
      expect(journal.lines.join('\n')).toMatch(/Tags\.bad: no ETag \(TypeError\)\. Let the function of @VersionETag\(\) give a number/);
      expect(journal.lines.join('\n')).not.toContain('alles');
    });

    it('makes no view that is not sent', async () => {
      expect(await get('/view')).toMatchObject({ status: 200, text: expect.stringContaining('Receipt 7'), headers: { etag: ['"7"'] } });
      const views = madeViews();
      expect(await get('/view', { 'if-none-match': '"7"' })).toMatchObject({ status: 304, text: '', headers: { etag: ['"7"'] } });
      expect(madeViews()).toBe(views);
    });

    it('closes a stream that is not sent', async () => {
      expect((await get('/file', { 'if-none-match': '"3"' })).status).toBe(304);
      expect(files.at(-1)?.destroyed).toBe(true);
    });
  });

  describe('@RequireIfMatch()', () => {
    it.each<[string, string | string[] | undefined, number, string]>([
      ['no field', undefined, 428, 'PRECONDITION_REQUIRED'],
      ['a tag without quotes', '1', 400, 'PRECONDITION_INVALID'],
      ['* beside a tag', ['*', '"1"'], 400, 'PRECONDITION_INVALID'],
      ['weak tags, which never match', 'W/"1", W/"2"', 412, 'PRECONDITION_FAILED'],
      ['an empty list', '', 412, 'PRECONDITION_FAILED'],
    ])('refuses %s before the handler begins', async (_, ifMatch, status, code) => {
      const id = randomUUID();
      const answer = await put(`/profiles/${id}`, ifMatch);
      expect([answer.status, codeOf(answer), ledger.runs(id)]).toEqual([status, code, 0]);
    });

    it('claims no key for what it refuses', async () => {
      const [id, key] = [randomUUID(), newKey()];
      expect((await put(`/profiles/keyed/${id}`, undefined, { key })).status).toBe(428);
      expect(await shared.records(key)).toBe(0);
      expect((await put(`/profiles/keyed/${id}`, '"1"', { key })).status).toBe(200);
    });

    it('comes behind global guards', async () => {
      expect((await put(`/profiles/${randomUUID()}`, undefined, { headers: { 'x-stranger': 'yes' } })).status).toBe(401);
    });

    it('covers a class’s PUT, PATCH and DELETE handlers, and others by name', async () => {
      const statuses = await Promise.all([
        get('/whole'),
        send(`${app.url}/whole`, { body: {} }),
        send(`${app.url}/whole/explicit`, { body: {} }),
        put('/whole'),
        put('/whole', '"1"'),
        send(`${app.url}/whole`, { method: 'PATCH', body: {} }),
      ]);
      expect(statuses.map(({ status }) => status)).toEqual([200, 201, 428, 428, 200, 428]);
    });

    it('stands in modules that do not know ours', async () => {
      @Module({ controllers: [Whole] })
      class Apart {}
      const options = { isGlobal: false, errorFormat: 'nest' } as IdempotencyModuleOptions;
      await shared.within(platform, { imports: [Apart], options }, async ({ url }) => {
        const answer = await send(`${url}/whole`, { method: 'PUT' });
        expect(json(answer)).toMatchObject({ statusCode: 428, code: 'PRECONDITION_REQUIRED' });
      });
    });

    it('keeps an application from starting that has no IdempotencyModule', async () => {
      @Module({ controllers: [Whole] })
      class Bare {}
      const bare = await NestFactory.createApplicationContext(Bare, { logger: false, abortOnError: false }).catch(
        (error: unknown) => error,
      );
      expect(bare).toMatchObject({ message: expect.stringMatching(/@RequireIfMatch\(\).*import IdempotencyModule\.forRoot\(\)/) });
    });
  });

  describe('@ExpectedVersion()', () => {
    it.each<[string | string[], VersionCondition]>([
      ['"3"', 3],
      ['"3", "4"', [3, 4]],
      [
        ['"3"', '"4"'],
        [3, 4],
      ],
      ['*', '*'],
      ['W/"3", "4"', 4],
      ['W/"3"', []],
      ['"a1b2"', []],
    ])('makes of If-Match: %s %j', async (ifMatch, expected) => {
      expect(json(await put('/expected', ifMatch))).toEqual({ expected });
    });

    it('hands a handler no request without a condition, or with a malformed one', async () => {
      const answers = [await put('/expected'), await put('/expected', '3')];
      expect(answers.map(({ status }) => status)).toEqual([428, 400]);
      expect(answers.map(codeOf)).toEqual(['PRECONDITION_REQUIRED', 'PRECONDITION_INVALID']);
    });
  });
});
