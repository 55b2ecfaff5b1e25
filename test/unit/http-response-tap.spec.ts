import { once } from 'node:events';
import { createServer, ServerResponse, type IncomingMessage } from 'node:http';
import { finished, pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import { afterEach, describe, expect, it } from '@jest/globals';
import type { Instead, ResponseTap, TapOptions } from '../../lib/http/response-tap.js';
import { deferred, NotingHooks, open, RawServer, read, send, tap, traces, turns } from './support/raw-http.js';

let server: RawServer | undefined;

afterEach(async () => {
  await server?.stop();
  server = undefined;
});

type Handler = (response: ServerResponse, tap: ResponseTap) => void;

async function serve(hooks: NotingHooks, handler: Handler, options?: Partial<TapOptions>): Promise<number> {
  server = await RawServer.start((_request, response) => handler(response, tap(response, hooks, options)));
  return server.port;
}

const conflict: Instead = { status: 409, headers: [['content-type', 'application/problem+json']], body: Buffer.from('{"code":"X"}') };

describe('an answer that can be held', () => {
  it('stays until the hook has resolved, and then leaves as it was written', async () => {
    const decision = deferred<undefined>();
    const hooks = new NotingHooks({ held: () => decision.promise });
    const port = await serve(hooks, (response) => {
      response.statusCode = 201;
      response.setHeader('X-Id', '7');
      response.write('one,');
      response.end(Buffer.from('two'));
    });
    let arrived = false;
    const request = open(port);
    const answer = once(request, 'response').then(([response]) => {
      arrived = true;
      return read(response);
    });
    expect(await hooks.answer.promise).toEqual({
      status: 201,
      headers: expect.objectContaining({ 'x-id': '7' }),
      body: Buffer.from('one,two'),
      truncated: false,
    });
    await turns();
    expect(arrived).toBe(false);
    decision.resolve(undefined);
    expect(await answer).toMatchObject({ status: 201, text: 'one,two', headers: { 'x-id': '7', 'content-length': '7' } });
    expect(hooks.calls).toEqual(['held']);
  });

  it.each<[string, (response: ServerResponse) => void, string]>([
    ['no bytes', (response) => response.end(), ''],
    ['end with a callback only', (response) => response.end(() => undefined), ''],
    ['a string in latin1', (response) => response.end('\u00e9', 'latin1'), '\ufffd'],
    ['a Uint8Array', (response) => response.end(new Uint8Array([104, 105])), 'hi'],
    ['null arguments, as Fastify gives them', (response) => response.end(null, null as never, null as never), ''],
    ['empty writes', (response) => void (response.write(''), response.end('x')), 'x'],
  ])('may be written as %s', async (_name, handler, text) => {
    const hooks = new NotingHooks();
    expect(await send(await serve(hooks, handler))).toMatchObject({ status: 200, text });
    expect((await hooks.answer.promise).body.toString()).toBe(text);
  });

  it.each<[string, (response: ServerResponse) => void, Record<string, unknown>]>([
    ['an object', (response) => response.writeHead(202, { 'X-A': 'a', 'X-N': 5 }), { 'x-a': 'a', 'x-n': 5 }],
    ['a reason and an object', (response) => response.writeHead(202, 'Sure', { 'X-A': 'a' }), { 'x-a': 'a' }],
    ['a flat list with a name twice', (response) => response.writeHead(202, ['X-A', 'a', 'x-a', 'b']), { 'x-a': ['a', 'b'] }],
    [
      'a list of pairs',
      (response) =>
        response.writeHead(202, [
          ['X-A', 'a'],
          ['X-B', 'b'],
        ] as never),
      { 'x-a': 'a', 'x-b': 'b' },
    ],
    ['nothing', (response) => response.writeHead(202), {}],
  ])('may have its head written with %s', async (name, writeHead, headers) => {
    const hooks = new NotingHooks();
    const port = await serve(hooks, (response) => {
      response.setHeader('x-kept', 'k');
      writeHead(response);
      response.end('ok');
    });
    const answer = await send(port);
    expect(await hooks.answer.promise).toMatchObject({ status: 202, headers: { 'x-kept': 'k', ...headers } });
    expect(answer).toMatchObject({ status: 202, text: 'ok', statusMessage: name.startsWith('a reason') ? 'Sure' : 'Accepted' });
    for (const [field, value] of Object.entries(headers)) expect(answer.headers[field]).toBe([value].flat().join(', '));
  });

  it('keeps a status message that was set on the response', async () => {
    const port = await serve(new NotingHooks(), (response) => {
      response.statusMessage = 'Fine';
      response.end();
    });
    expect((await send(port)).statusMessage).toBe('Fine');
  });

  it('keeps the content-length of the application, and lists of header values', async () => {
    const port = await serve(new NotingHooks(), (response) => {
      response.writeHead(200, { 'Content-Length': '4', 'Set-Cookie': ['a=1', 'b=2'] });
      response.write('ab');
      response.end('cd');
    });
    expect(await send(port)).toMatchObject({ text: 'abcd', headers: { 'content-length': '4', 'set-cookie': ['a=1', 'b=2'] } });
  });

  it.each([204, 304])('has no body with status %i, whatever was written', async (status) => {
    const hooks = new NotingHooks();
    const port = await serve(hooks, (response) => {
      response.statusCode = status;
      response.end('nothing');
    });
    expect(await send(port)).toMatchObject({ status, text: '' });
    expect((await hooks.answer.promise).body).toHaveLength(0);
  });

  it('looks sent and ended to the application at once, so that nobody answers a second time', async () => {
    const seen: unknown[] = [];
    const port = await serve(new NotingHooks(), (response) => {
      seen.push(response.headersSent, response.writableEnded);
      response.write('a');
      seen.push(response.headersSent, response.writableEnded);
      response.end();
      seen.push(response.headersSent, response.writableEnded, response.writableFinished);
      for (const late of [
        () => response.setHeader('x', 'y'),
        () => response.appendHeader('x', 'y'),
        () => response.removeHeader('x'),
        () => response.writeHead(500),
      ]) {
        expect(late).toThrow(expect.objectContaining({ code: 'ERR_HTTP_HEADERS_SENT' }));
      }
    });
    expect(await send(port)).toMatchObject({ status: 200, text: 'a' });
    expect(seen).toEqual([false, false, true, false, true, true, false]);
  });

  it.each<[string, (response: ServerResponse) => void]>([
    ['a header value that cannot be sent', (response) => response.writeHead(200, { 'X-A': 'a\nb' })],
    ['a header without a value', (response) => response.writeHead(200, { 'X-A': undefined as never })],
    ['a status that does not exist', (response) => response.writeHead(42)],
    ['a status message that cannot be sent', (response) => void ((response.statusMessage = 'a\nb'), response.end())],
    ['a chunk that is no bytes', (response) => response.write({} as never)],
    ['an odd list of headers', (response) => response.writeHead(200, ['X-A'])],
  ])('refuses %s there and then, as Node does', async (_name, fault) => {
    const port = await serve(new NotingHooks(), (response) => {
      let failed = false;
      try {
        fault(response);
      } catch {
        failed = true;
      }
      response.statusMessage = '';
      response.statusCode = 500;
      response.end(String(failed));
    });
    expect(await send(port)).toMatchObject({ status: 500, text: 'true' });
  });

  it('calls every callback once, and takes no bytes after the end', async () => {
    const called: string[] = [];
    const note = (name: string) => (error?: Error | null) => void called.push(error ? `${name}: ${error.message}` : name);
    const port = await serve(new NotingHooks(), (response) => {
      response.write('a', note('write'));
      response.write('b', 'utf8', note('write in utf8'));
      response.end('c', note('end'));
      response.end(note('second end'));
      expect(response.write('d', note('late write'))).toBe(false);
      response.end('e', note('late end'));
    });
    expect((await send(port)).text).toBe('abc');
    await turns();
    expect(called.toSorted()).toEqual([
      'end',
      'late end: write after end',
      'late write: write after end',
      'second end',
      'write',
      'write in utf8',
    ]);
  });

  it('finishes a handler that waits for it once it has left', async () => {
    const decision = deferred<undefined>();
    const waited = deferred<string>();
    const hooks = new NotingHooks({ held: () => decision.promise });
    const port = await serve(hooks, (response) => {
      void Promise.all([finished(response), pipeline(Readable.from(['a', 'b']), response)]).then(() => waited.resolve('waited'));
    });
    const answer = send(port);
    await hooks.answer.promise;
    await turns();
    expect(await Promise.race([waited.promise, Promise.resolve('waiting')])).toBe('waiting');
    decision.resolve(undefined);
    expect((await answer).text).toBe('ab');
    await waited.promise;
  });

  it('counts as truncated when a source failed after its first bytes', async () => {
    const hooks = new NotingHooks();
    const port = await serve(hooks, (response) => {
      const source = new Readable({ read: () => undefined });
      source.on('error', () => response.end());
      source.pipe(response);
      source.push('half');
      response.once('pipe', () => undefined);
      setImmediate(() => setImmediate(() => source.destroy(new Error('disk gone'))));
    });
    await send(port);
    expect(await hooks.answer.promise).toMatchObject({ truncated: true, body: Buffer.from('half') });
  });

  it('is whole when a source failed before its first bytes and something else was answered', async () => {
    const hooks = new NotingHooks();
    const port = await serve(hooks, (response) => {
      const source = new Readable({ read: () => undefined });
      source.on('error', () => response.writeHead(404).end('no such file'));
      source.pipe(response);
      source.destroy(new Error('ENOENT'));
    });
    expect(await send(port)).toMatchObject({ status: 404, text: 'no such file' });
    expect((await hooks.answer.promise).truncated).toBe(false);
  });
});

describe('the end of a tap', () => {
  it('leaves no member and no listener behind', async () => {
    let before: unknown;
    let tapped: ServerResponse | undefined;
    server = await RawServer.start((_request, response) => {
      before = traces(response);
      tap(response, new NotingHooks());
      response.write('a');
      response.end('b', () => undefined);
      tapped = response;
    });
    await send(server.port);
    expect(tapped && traces(tapped)).toEqual(before);
  });

  it('gives a middleware its own members back, and calls them', async () => {
    const calls: string[] = [];
    server = await RawServer.start((_request, response) => {
      const { end, writeHead } = response;
      const patchedEnd = ((...args: Parameters<typeof end>) => {
        calls.push('end');
        return end.apply(response, args);
      }) as typeof end;
      response.end = patchedEnd;
      response.writeHead = ((...args: Parameters<typeof writeHead>) => {
        calls.push('writeHead');
        response.setHeader('x-late', 'l');
        return writeHead.apply(response, args);
      }) as typeof writeHead;
      const hooks = new NotingHooks({
        held: async ({ headers }) => {
          calls.push('held');
          expect(headers['x-late']).toBeUndefined();
          return undefined;
        },
      });
      tap(response, hooks);
      response.end('x');
      setImmediate(() => calls.push(String(response.end === patchedEnd)));
    });
    expect((await send(server.port)).headers['x-late']).toBe('l');
    await turns();
    expect(calls).toEqual(['held', 'end', 'writeHead', 'true']);
  });

  it('hears a listener for the head that the handler put in front, and records what it adds', async () => {
    const hooks = new NotingHooks();
    const port = await serve(hooks, (response) => {
      const { writeHead } = response;
      response.writeHead = ((...args: Parameters<typeof writeHead>) => {
        if (!response.headersSent) response.setHeader('x-inner', 'i');
        return writeHead.apply(response, args);
      }) as typeof writeHead;
      response.end('x');
    });
    expect((await send(port)).headers['x-inner']).toBe('i');
    expect((await hooks.answer.promise).headers['x-inner']).toBe('i');
  });
});

describe('an answer that leaves in place of the one that was written', () => {
  it('has the headers that stood before the handler and its own, and nothing of the handler', async () => {
    const hooks = new NotingHooks({ held: () => Promise.resolve(conflict) });
    server = await RawServer.start((_request, response) => {
      response.setHeader('X-Request-Id', 'r1');
      response.setHeader('Content-Type', 'text/csv');
      tap(response, hooks, { pendingHeaders: { 'access-control-allow-origin': '*' } });
      response.setHeader('X-Secret', 's');
      response.setHeader('ETag', '"1"');
      response.writeHead(201, 'Made', { 'Content-Length': '3', 'Content-Type': 'text/plain' }).end('abc');
    });
    const { date: _date, connection: _connection, ...headers } = (await send(server.port)).headers;
    expect(headers).toEqual({
      'x-request-id': 'r1',
      'access-control-allow-origin': '*',
      'content-type': 'application/problem+json',
      'content-length': '12',
    });
  });

  it('has its own status and words', async () => {
    const port = await serve(new NotingHooks({ held: () => Promise.resolve(conflict) }), (response) =>
      response.writeHead(201, 'Made').end('abc'),
    );
    expect(await send(port)).toMatchObject({ status: 409, statusMessage: 'Conflict', text: '{"code":"X"}' });
  });

  it('has a date of its own, though the handler set another', async () => {
    const port = await serve(new NotingHooks({ held: () => Promise.resolve(conflict) }), (response) => {
      response.setHeader('Date', 'Thu, 01 Jan 1970 00:00:00 GMT');
      response.end('x');
    });
    expect(Date.parse((await send(port)).headers.date ?? '')).toBeGreaterThan(0);
  });

  it('is cut off, and nothing crashes, when a middleware beneath fails over it', async () => {
    server = await RawServer.start((_request, response) => {
      response.end = () => {
        throw new Error('a middleware of somebody');
      };
      tap(response, new NotingHooks());
      response.end('x');
    });
    const [error] = await once(open(server.port), 'error');
    expect(error).toMatchObject({ code: 'ECONNRESET' });
  });

  it('is a plain 500 when the hook fails', async () => {
    const hooks = new NotingHooks({ held: () => Promise.reject(new Error('a secret')) });
    const answer = await send(await serve(hooks, (response) => response.end('paid')));
    expect(answer).toMatchObject({ status: 500, text: '{"statusCode":500,"message":"Internal server error"}' });
    const thrower = new NotingHooks({
      held: () => {
        throw new Error('a secret');
      },
    });
    await server?.stop();
    expect(await send(await serve(thrower, (response) => response.end('paid')))).toMatchObject({ status: 500 });
  });
});

describe('letting through', () => {
  it.each<[string, Handler]>([
    [
      'before anything was written',
      (response, tapped) => (tapped.letThrough(), response.writeHead(200, { 'x-a': 'a' }), response.write('a'), response.end('b')),
    ],
    [
      'after the head',
      (response, tapped) => (response.writeHead(200, { 'x-a': 'a' }), tapped.letThrough(), response.write('a'), response.end('b')),
    ],
    [
      'after a flushed head',
      (response, tapped) => (
        response.setHeader('x-a', 'a'),
        response.flushHeaders(),
        tapped.letThrough(),
        response.write('a'),
        response.end('b')
      ),
    ],
    [
      'after the first bytes',
      (response, tapped) => (response.setHeader('x-a', 'a'), response.write('a'), tapped.letThrough(), response.end('b')),
    ],
    [
      'after the end',
      (response, tapped) => (
        response.setHeader('x-a', 'a'),
        response.write('a'),
        response.end('b'),
        tapped.letThrough(),
        tapped.letThrough()
      ),
    ],
  ])('sends what was held, and all that follows, when it comes %s', async (_name, handler) => {
    const hooks = new NotingHooks({ held: () => deferred<undefined>().promise });
    let tapped: ServerResponse | undefined;
    const port = await serve(hooks, (response, it) => {
      tapped = response;
      handler(response, it);
    });
    expect(await send(port)).toMatchObject({ status: 200, text: 'ab', headers: { 'x-a': 'a' } });
    expect(tapped && traces(tapped)).toMatchObject({ own: [] });
    expect(hooks.calls.filter((call) => call !== 'held')).toEqual([]);
  });

  it('makes the hook’s decision void', async () => {
    const decision = deferred<Instead>();
    const hooks = new NotingHooks({ held: () => decision.promise });
    const port = await serve(hooks, (response, tapped) => {
      response.end('mine');
      tapped.letThrough();
      decision.resolve(conflict);
    });
    expect(await send(port)).toMatchObject({ status: 200, text: 'mine' });
  });

  it('does not cut off what is still on its way, when the hook decides afterwards', async () => {
    const large = Buffer.alloc(32 * 1024 * 1024, 'x'); // more than sockets hold
    const decision = deferred<Instead>();
    const port = await serve(
      new NotingHooks({ held: () => decision.promise }),
      (response, tapped) => {
        response.end(large);
        tapped.letThrough();
      },
      { maxBodyBytes: large.length },
    );
    const [response] = (await once(open(port), 'response')) as [IncomingMessage]; // nobody reads yet
    decision.resolve(conflict);
    await turns();
    expect((await read(response)).body).toHaveLength(large.length);
  });

  it('leaves an application that is still writing alone, when the hook decides afterwards', async () => {
    const decision = deferred<Instead>();
    const port = await serve(
      new NotingHooks({ unholdable: () => decision.promise }),
      (response, tapped) => {
        response.write('longer than that');
        tapped.letThrough();
        decision.resolve(conflict);
        void turns().then(() => response.end(', and more'));
      },
      { maxBodyBytes: 8 },
    );
    expect(await send(port)).toMatchObject({ status: 200, text: 'longer than that, and more' });
  });

  it('really ends the head of a response that was flushed and then left alone', async () => {
    const port = await serve(new NotingHooks(), (response, tapped) => {
      response.flushHeaders();
      tapped.letThrough();
      expect(response.headersSent).toBe(true);
      expect(response.writableEnded).toBe(false);
      setImmediate(() => response.end());
    });
    expect((await send(port)).status).toBe(200);
  });
});

describe('an application that gives up', () => {
  it('destroys the response, and there will be no answer', async () => {
    const hooks = new NotingHooks();
    const port = await serve(hooks, (response) => {
      response.write('half');
      response.destroy();
      response.destroy();
      expect(response.destroyed).toBe(true);
    });
    const request = open(port);
    const [error] = (await once(request, 'error')) as [Error & { code: string }];
    expect(error.code).toBe('ECONNRESET');
    await turns();
    expect(hooks.calls).toEqual(['unanswered']);
  });

  it('does so after the end: the answer was there, and is not taken for none', async () => {
    const decision = deferred<undefined>();
    const hooks = new NotingHooks({ held: () => decision.promise });
    const port = await serve(hooks, (response) => {
      response.end('whole');
      response.destroy();
      decision.resolve(undefined);
    });
    await once(open(port), 'error');
    await turns();
    expect(hooks.calls).toEqual(['held']);
  });
});

/** Where Node itself, and libraries that look beneath its accessors, see that a head has been sent. */
function headOf(response: ServerResponse | undefined): unknown {
  return response && (response as unknown as { _header: unknown })._header;
}

describe('the head of an answer that has not left', () => {
  it('is there for libraries that look where Node keeps it, but the answer is not finished', async () => {
    const seen: unknown[] = [];
    const port = await serve(new NotingHooks(), (response) => {
      seen.push(headOf(response));
      response.end('x');
      seen.push(typeof headOf(response), response.finished, response.writableFinished);
      expect(() => response.setHeaders(new Map([['x', 'y']]))).toThrow(expect.objectContaining({ code: 'ERR_HTTP_HEADERS_SENT' }));
    });
    expect(await send(port)).toMatchObject({ status: 200, text: 'x' });
    expect(seen).toEqual([null, 'string', false, false]);
  });

  it.each([null, ''])('is %j again before anything is sent, if it was that before', async (before) => {
    const seen: unknown[] = [];
    server = await RawServer.start((_request, response) => {
      Object.assign(response, { _header: before });
      const { end } = response;
      response.end = ((...args: Parameters<typeof end>) => {
        seen.push(headOf(response), response.headersSent);
        return end.apply(response, args);
      }) as typeof end;
      tap(response, new NotingHooks());
      response.end('x');
    });
    expect(await send(server.port)).toMatchObject({ status: 200, text: 'x' });
    expect(seen).toEqual([before, false]);
  });

  it.each<[string, (response: ServerResponse) => void]>([
    ['gives up', (response) => response.destroy()],
    ['has an end that fails beneath', (response) => response.end('x')],
  ])('is gone when the application %s', async (_name, handler) => {
    let tapped: ServerResponse | undefined;
    server = await RawServer.start((_request, response) => {
      tapped = response;
      response.end = () => {
        throw new Error('a middleware of somebody');
      };
      tap(response, new NotingHooks());
      response.writeHead(200);
      handler(response);
    });
    await once(open(server.port), 'error');
    expect([headOf(tapped), tapped?.headersSent]).toEqual([null, false]);
  });

  it('is shown to an application whose responses have ways of their own', async () => {
    class Other extends ServerResponse {}
    Object.defineProperty(Other.prototype, 'headersSent', { get: () => false });
    const decision = deferred<undefined>();
    server = await RawServer.of(
      createServer({ ServerResponse: Other }, (_request, response) => {
        tap(response, new NotingHooks({ held: () => decision.promise }));
        response.end('x');
        expect(response.headersSent).toBe(true);
        expect(() => response.setHeader('x', 'y')).toThrow(expect.objectContaining({ code: 'ERR_HTTP_HEADERS_SENT' }));
        decision.resolve(undefined);
      }),
    );
    expect(await send(server.port)).toMatchObject({ status: 200, text: 'x' });
  });

  it('is not what leaves when it is flushed while the last bytes wait', async () => {
    const decision = deferred();
    const ending = deferred();
    const hooks = new NotingHooks({
      flowed: () => {
        ending.resolve();
        return decision.promise;
      },
    });
    let tapped: ServerResponse | undefined;
    const port = await serve(hooks, (response) => (tapped = response).end('longer than that'), { maxBodyBytes: 8 });
    const answer = send(port);
    await ending.promise;
    expect(tapped?.headersSent).toBe(true);
    tapped?.flushHeaders();
    expect(() => tapped?.writeHead(500)).toThrow(expect.objectContaining({ code: 'ERR_HTTP_HEADERS_SENT' }));
    decision.resolve();
    expect(await answer).toMatchObject({ status: 200, text: 'longer than that' });
  });

  it('has what was set by a name that every object knows, and another answer has not', async () => {
    const port = await serve(new NotingHooks({ held: () => Promise.resolve(conflict) }), (response) => {
      response.setHeader('constructor', 'secret');
      response.end('x');
    });
    expect(Object.hasOwn((await send(port)).headers, 'constructor')).toBe(false);
  });
});

describe('interim answers', () => {
  it('pass untouched', async () => {
    const decision = deferred<undefined>();
    const port = await serve(new NotingHooks({ held: () => decision.promise }), (response) => {
      response.writeEarlyHints({ link: '</a.css>; rel=preload' });
      response.writeProcessing();
      response.end('x');
    });
    const request = open(port);
    const seen: number[] = [];
    request.on('information', ({ statusCode }) => {
      seen.push(statusCode);
      if (seen.length === 2) decision.resolve(undefined);
    });
    const [response] = await once(request, 'response');
    expect((await read(response)).text).toBe('x');
    expect(seen).toEqual([103, 102]);
  });
});
