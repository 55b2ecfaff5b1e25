import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
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

const SMALL = { maxBodyBytes: 8 };
const conflict: Instead = { status: 409, headers: [['content-type', 'application/problem+json']], body: Buffer.from('{"code":"X"}') };

/** Whether a request has had an answer yet. */
function watched(port: number) {
  const request = open(port);
  const state = { answered: false };
  const answer = once(request, 'response').then(([response]) => {
    state.answered = true;
    return response as IncomingMessage;
  });
  return { state, answer };
}

describe('an answer that cannot be held', () => {
  it.each<[string, Handler, string]>([
    ['is larger than the limit in one piece', (response) => response.end('123456789'), '123456789'],
    ['grows over the limit', (response) => (response.write('12345678'), response.write('9'), response.end('0')), '1234567890'],
    ['goes over the limit with its end', (response) => (response.write('1234'), response.end('56789')), '123456789'],
    [
      'is an event stream by its head',
      (response) => response.writeHead(200, { 'Content-Type': 'text/event-stream; charset=utf-8' }).end('data: 1'),
      'data: 1',
    ],
    [
      'is an event stream by a header',
      (response) => (response.setHeader('content-type', 'Text/Event-Stream'), response.flushHeaders(), response.end('d')),
      'd',
    ],
    ['has announced trailers', (response) => (response.setHeader('Trailer', 'X-Sum'), response.end('t')), 't'],
    ['has trailers before its head', (response) => (response.addTrailers({ 'x-sum': '1' }), response.end('t')), 't'],
  ])('asks once before any byte leaves, when it %s', async (_name, handler, text) => {
    const decision = deferred<undefined>();
    const asked = deferred();
    const hooks = new NotingHooks({
      unholdable: () => {
        asked.resolve();
        return decision.promise;
      },
    });
    const { state, answer } = watched(await serve(hooks, handler, SMALL));
    await asked.promise;
    await turns();
    expect(state.answered).toBe(false);
    decision.resolve(undefined);
    expect((await read(await answer)).text).toBe(text);
    expect(hooks.calls).toEqual(['unholdable', 'flowed']);
  });

  it('is held still at exactly the limit', async () => {
    const hooks = new NotingHooks();
    expect((await send(await serve(hooks, (response) => response.end('12345678'), SMALL))).text).toBe('12345678');
    expect(hooks.calls).toEqual(['held']);
  });

  it('tells the hook the head as the application meant it', async () => {
    const head = deferred<unknown>();
    const hooks = new NotingHooks({
      unholdable: async (it) => {
        head.resolve(it);
        return undefined;
      },
    });
    const answer = await send(await serve(hooks, (response) => response.writeHead(201, { 'Content-Length': '9' }).end('123456789'), SMALL));
    expect(await head.promise).toMatchObject({ status: 201, headers: { 'content-length': '9' } });
    expect(answer).toMatchObject({ status: 201, headers: { 'content-length': '9' } });
  });

  it('keeps its trailers', async () => {
    const port = await serve(new NotingHooks(), (response) => {
      response.writeHead(200, { Trailer: 'X-Sum', 'Transfer-Encoding': 'chunked' });
      response.write('body');
      response.addTrailers({ 'X-Sum': '42' });
      response.end();
    });
    expect(await send(port)).toMatchObject({ text: 'body', trailers: { 'x-sum': '42' } });
  });

  it('lets an event stream go event by event', async () => {
    const next = deferred();
    const hooks = new NotingHooks();
    const port = await serve(hooks, (response) => {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' });
      response.flushHeaders();
      void next.promise.then(() => {
        response.write('data: 1\n\n');
        void last.promise.then(() => response.end('data: 2\n\n'));
      });
    });
    const last = deferred();
    const [response] = (await once(open(port), 'response')) as [IncomingMessage]; // the head came alone
    next.resolve();
    expect(String((await once(response, 'data'))[0])).toBe('data: 1\n\n');
    last.resolve();
    expect((await read(response)).text).toBe('data: 2\n\n');
    expect(hooks.calls).toEqual(['unholdable', 'flowed']);
  });

  it('withholds its last bytes until the hook for the end has resolved', async () => {
    const decision = deferred();
    const ending = deferred();
    const hooks = new NotingHooks({
      flowed: () => {
        ending.resolve();
        return decision.promise;
      },
    });
    const port = await serve(hooks, (response) => (response.write('123456789'), response.end('last')), SMALL);
    const [response] = (await once(open(port), 'response')) as [IncomingMessage];
    expect(String((await once(response, 'data'))[0])).toBe('123456789');
    await ending.promise;
    await turns();
    expect(response.readableEnded).toBe(false);
    decision.resolve();
    expect((await read(response)).text).toBe('last');
  });

  it('is cut off when the hook for the end fails: the client must not take it for whole', async () => {
    const decision = deferred();
    const hooks = new NotingHooks({ flowed: () => decision.promise });
    const port = await serve(hooks, (response) => (response.write('123456789'), response.end('last')), SMALL);
    const [response] = (await once(open(port), 'response')) as [IncomingMessage];
    decision.reject(new Error('lost'));
    await expect(read(response)).rejects.toMatchObject({ code: 'ECONNRESET' });
  });

  it('makes writers wait, and calls each of them back once when its bytes are really written', async () => {
    const decision = deferred<undefined>();
    const called: string[] = [];
    const results: boolean[] = [];
    const port = await serve(
      new NotingHooks({ unholdable: () => decision.promise }),
      (response) => {
        results.push(response.write('1234', () => called.push('held')));
        results.push(response.write('56789', () => called.push('over the limit')));
        results.push(response.write('a', 'utf8', () => called.push('kept')));
        response.once('drain', () => {
          results.push(response.write('b', () => called.push('flowing')));
          response.end(() => called.push('end'));
        });
      },
      SMALL,
    );
    const answer = send(port);
    await turns();
    expect(results).toEqual([true, false, false]);
    expect(called).toEqual(['held']);
    decision.resolve(undefined);
    expect((await answer).text).toBe('123456789ab');
    await turns();
    expect(called).toEqual(['held', 'over the limit', 'kept', 'flowing', 'end']);
  });

  it('leaves no member and no listener behind', async () => {
    let before: unknown;
    let tapped: ServerResponse | undefined;
    server = await RawServer.start((_request, response) => {
      before = traces(response);
      tap(response, new NotingHooks(), SMALL);
      Readable.from(['12345', '67890', 'abc']).pipe(response);
      tapped = response;
    });
    expect((await send(server.port)).text).toBe('1234567890abc');
    await turns();
    expect(tapped && traces(tapped)).toEqual(before);
  });
});

describe('a big stream to a client that reads slowly', () => {
  const CHUNK = Buffer.alloc(64 * 1024, 'x');
  const CHUNKS = 1024; // 64 MiB, far more than sockets hold

  it('is paused at the source, so that memory stays bounded, and arrives whole', async () => {
    let produced = 0;
    const source = new Readable({
      read() {
        this.push(produced === CHUNKS ? null : CHUNK);
        produced += 1;
      },
    });
    const hooks = new NotingHooks();
    const written = deferred();
    const port = await serve(hooks, (response) => void pipeline(source, response).then(() => written.resolve()), {
      maxBodyBytes: 1024 * 1024,
    });
    const [response] = (await once(open(port), 'response')) as [IncomingMessage];
    let settled = -1;
    while (settled !== produced) {
      settled = produced;
      await turns(50); // until the source has come to a stand with nobody reading
    }
    expect(settled).toBeLessThan(CHUNKS / 4);
    let bytes = 0;
    for await (const chunk of response) bytes += (chunk as Buffer).length;
    expect(bytes).toBe(CHUNK.length * CHUNKS);
    await written.promise;
    expect(hooks.calls).toEqual(['unholdable', 'flowed']);
  });

  it('gets what was kept no faster than the response takes it', async () => {
    const below: string[] = [];
    let tapped: ServerResponse | undefined;
    server = await RawServer.start((_request, response) => {
      const { write } = response;
      response.write = ((chunk: Buffer) => {
        below.push(chunk.toString());
        write.call(response, chunk, 'utf8');
        return false;
      }) as typeof response.write;
      tap(response, new NotingHooks(), { maxBodyBytes: 2 });
      for (const part of ['1', '2', '3']) response.write(part);
      tapped = response;
    });
    const answer = send(server.port);
    while (below.length === 0) await turns(1);
    for (const expected of [['1'], ['1', '2'], ['1', '2', '3']]) {
      await turns();
      expect(below).toEqual(expected);
      tapped?.emit('drain');
    }
    tapped?.end();
    expect((await answer).text).toBe('123');
  });

  it('waits for the hook with no more than the limit and what was under way in memory', async () => {
    let produced = 0;
    const source = new Readable({
      read() {
        produced += 1;
        this.push(CHUNK);
      },
    });
    const decision = deferred<undefined>();
    const asked = deferred();
    const port = await serve(
      new NotingHooks({
        unholdable: () => {
          asked.resolve();
          return decision.promise;
        },
      }),
      (response) => source.pipe(response),
      { maxBodyBytes: CHUNK.length * 4 },
    );
    open(port);
    await asked.promise;
    await turns(50);
    expect(produced).toBeLessThan(10);
    source.destroy();
  });
});

describe('another answer in place of one that cannot be held', () => {
  const refusing = () => new NotingHooks({ unholdable: () => Promise.resolve(conflict) });

  it('leaves, and the application writes into the void to its end', async () => {
    const done = deferred();
    const called: string[] = [];
    const hooks = refusing();
    const port = await serve(
      hooks,
      (response) => {
        response.write('123456789', () => called.push('first'));
        response.once('drain', () => {
          expect(response.write('more', () => called.push('more'))).toBe(true);
          response.end('end', () => {
            called.push('end');
            done.resolve();
          });
        });
      },
      SMALL,
    );
    expect(await send(port)).toMatchObject({ status: 409, text: '{"code":"X"}' });
    await done.promise;
    expect(called).toEqual(['first', 'more', 'end']);
    expect(hooks.calls).toEqual(['unholdable']);
  });

  it('leaves when the application had ended already', async () => {
    expect(await send(await serve(refusing(), (response) => response.end('123456789'), SMALL))).toMatchObject({ status: 409 });
  });

  it('lets a piped source run to its end', async () => {
    const source = Readable.from(['12345', '67890', 'abc']);
    const ended = once(source, 'end');
    const port = await serve(refusing(), (response) => source.pipe(response), SMALL);
    expect(await send(port)).toMatchObject({ status: 409 });
    await ended;
  });

  it('is a plain 500 when the hook fails', async () => {
    const hooks = new NotingHooks({ unholdable: () => Promise.reject(new Error('a secret')) });
    expect(await send(await serve(hooks, (response) => response.end('123456789'), SMALL))).toMatchObject({ status: 500 });
  });

  it('is not cut off by an application that gives up its own', async () => {
    const port = await serve(
      refusing(),
      (response) => {
        response.write('123456789');
        response.once('drain', () => response.destroy());
      },
      SMALL,
    );
    expect(await send(port)).toMatchObject({ status: 409, text: '{"code":"X"}' });
  });
});

describe('letting through what cannot be held', () => {
  it('sends it while the hook is still deciding, and wakes who waits', async () => {
    const port = await serve(
      new NotingHooks({ unholdable: () => deferred<undefined>().promise }),
      (response, tapped) => {
        response.write('123456789');
        response.once('drain', () => response.end('more'));
        tapped.letThrough();
      },
      SMALL,
    );
    expect((await send(port)).text).toBe('123456789more');
  });

  it('sends it while the hook for the end is deciding', async () => {
    const hooks = new NotingHooks({ flowed: () => deferred().promise });
    const port = await serve(
      hooks,
      (response, tapped) => {
        response.end('123456789');
        setImmediate(() => tapped.letThrough());
      },
      SMALL,
    );
    expect((await send(port)).text).toBe('123456789');
    expect(hooks.calls).toEqual(['unholdable', 'flowed']);
  });

  it('lets it flow on without a hook for the end', async () => {
    const hooks = new NotingHooks();
    const port = await serve(
      hooks,
      (response, tapped) => {
        response.write('123456789');
        response.once('drain', () => {
          tapped.letThrough();
          response.end('more');
        });
      },
      SMALL,
    );
    expect((await send(port)).text).toBe('123456789more');
    expect(hooks.calls).toEqual(['unholdable']);
  });
});
