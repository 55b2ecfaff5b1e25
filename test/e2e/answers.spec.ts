import { beforeAll, describe, expect, it } from '@jest/globals';
import {
  Body,
  Catch,
  ClassSerializerInterceptor,
  ConflictException,
  Controller,
  Header,
  HttpCode,
  HttpException,
  HttpStatus,
  Post,
  Put,
  Redirect,
  Render,
  Res,
  StreamableFile,
  UnprocessableEntityException,
  UseFilters,
  UseInterceptors,
} from '@nestjs/common';
import type { ArgumentsHost, ExceptionFilter } from '@nestjs/common';
import { Exclude } from 'class-transformer';
import { Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { from, of } from 'rxjs';
import type { Observable } from 'rxjs';
import { Idempotent } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { RunningApp } from '../support/app.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { Journal } from './support/journal.js';
import { bare, madeViews, redirect, sinceNest12, withViews } from './support/platform-response.js';
import type { PlatformResponse } from './support/platform-response.js';
import { essence } from './support/replays.js';
import { field, isReplay, send } from './support/wire.js';
import type { Answer } from './support/wire.js';

const shared = bench();
const ledger = new Ledger();
const BYTES = Buffer.from(Array.from({ length: 1024 }, (_, i) => (i * 7) % 256));
const LONG = 'Überweisung – 支払い – 💶 '.repeat(500);

class SoldOut extends Error {}

@Catch(SoldOut)
class TeapotFilter implements ExceptionFilter {
  catch(_error: SoldOut, host: ArgumentsHost): void {
    host.switchToHttp().getResponse<PlatformResponse>().status(418).header('content-language', 'en').send({ short: true, stout: true });
  }
}

class Customer {
  name = 'Ann';
  @Exclude()
  password = 'hunter2';
}

/** Counts each run; what the handler answers does not tell the runs apart. */
@Controller()
@Idempotent()
class Answers {
  @Post('object')
  object(): object {
    ledger.run('object');
    return { id: 1, text: LONG, nested: { list: [1, null, true] } };
  }

  @Post('string')
  string(): string {
    ledger.run('string');
    return LONG;
  }

  @Post('html')
  @Header('Content-Type', 'text/html; charset=utf-8')
  html(): string {
    ledger.run('html');
    return '<p>ö</p>';
  }

  @Post('number')
  number(): number {
    ledger.run('number');
    return 42.5;
  }

  @Post('boolean')
  boolean(): boolean {
    ledger.run('boolean');
    return false;
  }

  @Post('null')
  null(): null {
    ledger.run('null');
    return null;
  }

  @Post('nothing')
  nothing(): void {
    ledger.run('nothing');
  }

  @Post('empty')
  empty(): string {
    ledger.run('empty');
    return '';
  }

  @Post('list')
  list(): unknown[] {
    ledger.run('list');
    return [];
  }

  @Post('accepted')
  @HttpCode(HttpStatus.ACCEPTED)
  @Header('Cache-Control', 'max-age=60')
  accepted(): object {
    ledger.run('accepted');
    return { accepted: true };
  }

  @Put('no-content')
  @HttpCode(HttpStatus.NO_CONTENT)
  noContent(): void {
    ledger.run('no-content');
  }

  @Post('redirect')
  @Redirect('/elsewhere', 303)
  redirect(): void {
    ledger.run('redirect');
  }

  @Post('dynamic-redirect')
  @Redirect('/elsewhere', 302)
  dynamicRedirect(): object {
    ledger.run('dynamic-redirect');
    return { url: '/orders/7?new=1', statusCode: 303 };
  }

  @Post('own-redirect')
  ownRedirect(@Res() response: PlatformResponse): void {
    ledger.run('own-redirect');
    redirect(response, '/orders/8', 303);
  }

  @Post('conflict')
  conflict(): never {
    ledger.run('conflict');
    throw new ConflictException({ reason: 'The seat is taken.', seat: '12A' });
  }

  @Post('unprocessable')
  async unprocessable(): Promise<never> {
    ledger.run('unprocessable');
    await pause(1);
    throw new UnprocessableEntityException('No such currency');
  }

  @Post('payment-required')
  paymentRequired(): never {
    ledger.run('payment-required');
    throw new HttpException('Card declined', 402);
  }

  @Post('teapot')
  @UseFilters(TeapotFilter)
  teapot(): never {
    ledger.run('teapot');
    throw new SoldOut();
  }

  @Post('own-json')
  ownJson(@Res() response: PlatformResponse): void {
    ledger.run('own-json');
    response.status(202).header('link', ['</a>; rel="next"', '</b>; rel="prev"']).send({ by: 'hand' });
  }

  @Post('own-json-later')
  ownJsonLater(@Res() response: PlatformResponse): void {
    ledger.run('own-json-later');
    setTimeout(() => response.status(201).send({ by: 'hand', later: true }), 5);
  }

  @Post('by-hand')
  byHand(@Res() response: PlatformResponse): void {
    ledger.run('by-hand');
    const raw = bare(response);
    raw.writeHead(203, { 'Content-Type': 'text/plain; charset=utf-8', Link: ['</a>', '</b>'], 'Content-Language': 'de' });
    raw.write('grüß', 'utf8');
    raw.write(Buffer.from(' dich'));
    raw.end('!');
  }

  @Post('passthrough')
  passthrough(@Res({ passthrough: true }) response: PlatformResponse): object {
    ledger.run('passthrough');
    response.status(202).header('location', '/orders/9').header('link', ['</1>; rel="first"', '</9>; rel="last"']);
    return { passed: true };
  }

  @Post('all-kept')
  allKept(@Res({ passthrough: true }) response: PlatformResponse): string {
    ledger.run('all-kept');
    response
      .header('content-type', 'text/csv')
      .header('content-language', 'fr')
      .header('content-location', '/reports/1')
      .header('content-disposition', 'attachment; filename="r.csv"')
      .header('cache-control', 'private')
      .header('location', '/reports/1')
      .header('etag', '"v1"')
      .header('last-modified', 'Tue, 01 Jul 2025 00:00:00 GMT')
      .header('link', '</reports>; rel="up"');
    return 'a;b';
  }

  @Post('buffer')
  buffer(): Buffer {
    ledger.run('buffer');
    return BYTES;
  }

  @Post('own-buffer')
  ownBuffer(@Res() response: PlatformResponse): void {
    ledger.run('own-buffer');
    response.status(200).header('content-type', 'application/octet-stream').send(BYTES);
  }

  @Post('file')
  file(): StreamableFile {
    ledger.run('file');
    return new StreamableFile(BYTES, { type: 'image/png', disposition: 'attachment; filename="a.png"', length: BYTES.length });
  }

  @Post('streamed-file')
  streamedFile(): StreamableFile {
    ledger.run('streamed-file');
    return new StreamableFile(Readable.from([BYTES, BYTES, Buffer.from('end')]), { type: 'application/pdf' });
  }

  @Post('piped')
  piped(@Res() response: PlatformResponse): void {
    ledger.run('piped');
    const raw = bare(response);
    raw.setHeader('Content-Type', 'application/x-ndjson');
    Readable.from(slowLines()).pipe(raw);
  }

  @Post('sent-stream')
  sentStream(@Res() response: PlatformResponse): void {
    ledger.run('sent-stream');
    const lines = Readable.from(slowLines());
    response.status(201).header('content-type', 'application/x-ndjson');
    if (response.raw === undefined) lines.pipe(bare(response));
    else response.send(lines);
  }

  @Post('view')
  @Render('receipt.hbs')
  view(): object {
    ledger.run('view');
    return { number: 7, name: 'Ann' };
  }

  @Post('serialized')
  @UseInterceptors(ClassSerializerInterceptor)
  serialized(): Customer {
    ledger.run('serialized');
    return new Customer();
  }

  @Post('observable')
  observable(): Observable<object> {
    ledger.run('observable');
    return of({ n: 1 }, { n: 2 });
  }

  @Post('promised-observable')
  async promisedObservable(): Promise<Observable<object>> {
    ledger.run('promised-observable');
    return Promise.resolve(from(pause(1).then(() => ({ n: 3 }))));
  }

  @Post('echo')
  echo(@Body() body: unknown): unknown {
    ledger.run('echo');
    return body;
  }
}

function* slowLinesAtOnce(): Generator<string> {
  for (let line = 0; line < 200; line++) yield `{"line":${line}}\n`;
}

async function* slowLines(): AsyncGenerator<string> {
  for (const line of slowLinesAtOnce()) {
    if (line.includes('00')) await pause(1);
    yield line;
  }
}

@Controller()
@Idempotent()
class GeneratedAnswers {
  @Post('generated')
  async *generated(): AsyncGenerator<string> {
    ledger.run('generated');
    yield* slowLines();
  }
}

describe.each(PLATFORMS)('an answer on %s', (platform) => {
  const journal = new Journal();
  let app: RunningApp;
  beforeAll(async () => {
    app = await shared.start(platform, {
      create: { logger: journal },
      controllers: sinceNest12 ? [Answers, GeneratedAnswers] : [Answers],
      configure: withViews,
    });
  });

  const kinds: [what: string, status: number, text: string | RegExp][] = [
    ['object', 201, JSON.stringify({ id: 1, text: LONG, nested: { list: [1, null, true] } })],
    ['string', 201, LONG],
    ['html', 201, '<p>ö</p>'],
    ['number', 201, '42.5'],
    ['boolean', 201, 'false'],
    ['null', 201, /^/],
    ['nothing', 201, ''],
    ['empty', 201, ''],
    ['list', 201, '[]'],
    ['accepted', 202, '{"accepted":true}'],
    ['no-content', 204, ''],
    ['redirect', 303, /^/],
    ['dynamic-redirect', 303, /^/],
    ['own-redirect', 303, /^/],
    ['conflict', 409, '{"reason":"The seat is taken.","seat":"12A"}'],
    ['unprocessable', 422, /No such currency/],
    ['payment-required', 402, /Card declined/],
    ['teapot', 418, '{"short":true,"stout":true}'],
    ['own-json', 202, '{"by":"hand"}'],
    ['own-json-later', 201, '{"by":"hand","later":true}'],
    ['by-hand', 203, 'grüß dich!'],
    ['passthrough', 202, '{"passed":true}'],
    ['all-kept', 201, 'a;b'],
    ['buffer', 201, /^/],
    ['own-buffer', 200, /^/],
    ['file', 201, /^/],
    ['streamed-file', 201, /^/],
    ['piped', 201, [...slowLinesAtOnce()].join('')],
    ['sent-stream', 201, [...slowLinesAtOnce()].join('')],
    ['view', 201, '<p>Receipt 7 for Ann</p>\n'],
    ['serialized', 201, '{"name":"Ann"}'],
    ['observable', 201, '{"n":2}'],
    ['promised-observable', 201, '{"n":3}'],
    ...(sinceNest12 ? [['generated', 201, [...slowLinesAtOnce()].join('')] as [string, number, string]] : []),
  ];

  it.each(kinds)('%s is what it would be without a key, and the same bytes, status and headers again', async (what, status, text) => {
    const sent = { key: newKey(), method: what === 'no-content' ? 'PUT' : 'POST' };
    const url = `${app.url}/${what}`;
    const unprotected = await send(url, { method: sent.method });
    const before = ledger.runs(what);
    const [first, second, third] = [await send(url, sent), await send(url, sent), await send(url, sent)];

    expect(unprotected.status).toBe(status);
    if (text instanceof RegExp) expect(first.text).toMatch(text);
    else expect(first.text).toBe(text);
    expect(essence(first)).toEqual(essence(unprotected));
    expect(lasting(first)).toEqual(lasting(unprotected));
    expect(essence(second)).toEqual(essence(first));
    expect(essence(third)).toEqual(essence(first));
    expect([isReplay(first), isReplay(second), isReplay(third)]).toEqual([false, true, true]);
    expect(ledger.runs(what)).toBe(before + 1);
    if (second.body.length > 0) expect(field(second, 'content-length')).toBe(String(second.body.length));
  });

  it.each(['object', 'nothing', 'redirect', 'conflict', 'file', 'streamed-file', 'own-json', 'by-hand', 'view'])(
    '%s is replayed without a word in the log: the framework takes it for its own',
    async (what) => {
      const sent = { key: newKey() };
      await send(`${app.url}/${what}`, sent);
      journal.lines.length = 0;
      expect(isReplay(await send(`${app.url}/${what}`, sent))).toBe(true);
      await send(`${app.url}/no-such-route`); // whatever the replay had set off has been said by now
      expect(journal.lines).toEqual([]);
    },
  );

  it('is replayed without making its view again', async () => {
    const sent = { key: newKey() };
    const views = madeViews();
    await send(`${app.url}/view`, sent);
    await send(`${app.url}/view`, sent);
    expect(madeViews()).toBe(views + 1);
  });

  it('keeps every byte of a body of its own', async () => {
    const first = await send(`${app.url}/own-buffer`, { key: newKey() });
    expect(first.body.equals(BYTES)).toBe(true);
  });

  it('keeps repeated fields apart', async () => {
    for (const what of ['own-json', 'by-hand', 'passthrough']) {
      const sent = { key: newKey() };
      const [first, second] = [await send(`${app.url}/${what}`, sent), await send(`${app.url}/${what}`, sent)];
      expect(first.headers['link']).toHaveLength(2);
      expect(second.headers['link']).toEqual(first.headers['link']);
    }
  });

  it('keeps all of the headers that are promised', async () => {
    const sent = { key: newKey() };
    await send(`${app.url}/all-kept`, sent);
    expect((await send(`${app.url}/all-kept`, sent)).headers).toMatchObject({
      'content-type': [expect.stringMatching(/^text\/csv/)],
      'content-language': ['fr'],
      'content-location': ['/reports/1'],
      'content-disposition': ['attachment; filename="r.csv"'],
      'cache-control': ['private'],
      location: ['/reports/1'],
      etag: ['"v1"'],
      'last-modified': ['Tue, 01 Jul 2025 00:00:00 GMT'],
      link: ['</reports>; rel="up"'],
    });
  });

  it('stands in the table before it leaves', async () => {
    const key = newKey();
    await send(`${app.url}/object`, { key });
    const { rows } = await shared
      .database()
      .pool.query<{ status: number; bytes: number }>('select status, octet_length(body) as bytes from idempotency_records where key = $1', [
        key,
      ]);
    expect(rows).toEqual([
      { status: 201, bytes: Buffer.byteLength(JSON.stringify({ id: 1, text: LONG, nested: { list: [1, null, true] } })) },
    ]);
  });
});

/** Everything but what is new for each message. */
function lasting({ headers }: Answer): unknown {
  const OF_THE_MESSAGE = ['date', 'connection', 'keep-alive', 'content-length', 'transfer-encoding'];
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !OF_THE_MESSAGE.includes(name)));
}
