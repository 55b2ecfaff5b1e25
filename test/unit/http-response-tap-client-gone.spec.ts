import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import * as net from 'node:net';
import { Readable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { afterEach, describe, expect, it } from '@jest/globals';
import type { Clock } from '../../lib/contract/clock.js';
import type { ResponseTap, TapOptions } from '../../lib/http/response-tap.js';
import { deferred, NotingHooks, open, RawServer, tap, traces, turns } from './support/raw-http.js';

let server: RawServer | undefined;

afterEach(async () => {
  await server?.stop();
  server = undefined;
});

/** Time that passes only when it is told to. */
class HandClock implements Clock {
  readonly #due = new Set<() => void>();

  now(): number {
    return 0;
  }

  after(_delayMs: number, task: () => void): () => void {
    this.#due.add(task);
    return () => this.#due.delete(task);
  }

  get waiting(): number {
    return this.#due.size;
  }

  ring(): void {
    const due = [...this.#due];
    this.#due.clear();
    for (const task of due) task();
  }
}

/** Unlike `once`, it does not mind an 'error' on the way. */
function closeOf(stream: NodeJS.EventEmitter): Promise<void> {
  return new Promise((resolve) => stream.once('close', resolve));
}

interface Scene {
  readonly response: ServerResponse;
  readonly tap: ResponseTap;
  readonly closes: string[];
  /** Hangs the client up, and waits until the server knows. */
  hangUp(): Promise<void>;
}

/** A request that is under way, its response tapped, and a client that can go. */
async function scene(hooks: NotingHooks, options: Partial<TapOptions> = {}): Promise<Scene> {
  const arrived = deferred<{ response: ServerResponse; tap: ResponseTap; closes: string[] }>();
  server = await RawServer.start((_request, response) => {
    const closes: string[] = [];
    response.on('close', () => closes.push('before'));
    const tapped = tap(response, hooks, options);
    response.on('close', () => closes.push('during'));
    arrived.resolve({ response, tap: tapped, closes });
  });
  const request = open(server.port);
  const { response, tap: tapped, closes } = await arrived.promise;
  return {
    response,
    tap: tapped,
    closes,
    async hangUp() {
      const gone = closeOf(response.req.socket);
      request.destroy();
      await gone;
      await turns();
    },
  };
}

describe('a client that goes before the answer is written', () => {
  it('is not noticed by the application, whose whole answer is held', async () => {
    const hooks = new NotingHooks();
    const { response, closes, hangUp } = await scene(hooks);
    await hangUp();
    expect([response.destroyed, response.closed, response.writableEnded]).toEqual([false, false, false]);
    expect(closes).toEqual([]);
    response.write('one,');
    response.end('two');
    expect((await hooks.answer.promise).body.toString()).toBe('one,two');
  });

  it('closes the response afterwards, once, for all who listen', async () => {
    const { response, closes, hangUp } = await scene(new NotingHooks());
    await hangUp();
    response.end('x');
    await turns();
    expect(closes).toEqual(['before', 'during']);
    expect([response.destroyed, response.closed, response.writableEnded]).toEqual([true, true, true]);
    expect(traces(response)).toMatchObject({ own: [] });
  });

  it('lets a piped source run to its end, and a pipeline too', async () => {
    for (const write of [
      (source: Readable, response: ServerResponse) => void source.pipe(response),
      (source: Readable, response: ServerResponse) => void pipeline(source, response).catch(() => undefined),
    ]) {
      const hooks = new NotingHooks();
      const { response, hangUp } = await scene(hooks);
      const source = new Readable({ read: () => undefined });
      source.push('one,');
      write(source, response);
      await hangUp();
      source.push('two');
      source.push(null);
      expect(await hooks.answer.promise).toMatchObject({ body: Buffer.from('one,two'), truncated: false });
      await server?.stop();
    }
    server = undefined;
  });

  it('cannot make a framework destroy the source, unless that has failed', async () => {
    const hooks = new NotingHooks();
    const { response, hangUp } = await scene(hooks);
    const source = new Readable({ read: () => undefined });
    source.push('one,');
    source.pipe(response);
    response.req.socket.once('close', () => source.destroy());
    await hangUp();
    expect(source.destroyed).toBe(false);
    source.push('two');
    source.push(null);
    expect((await hooks.answer.promise).body.toString()).toBe('one,two');
    await turns();
    expect(source.destroyed).toBe(true);
    expect(Object.hasOwn(source, 'destroy')).toBe(false);
  });

  it('cannot destroy a source that was announced but not yet piped', async () => {
    const hooks = new NotingHooks();
    const { response, tap: tapped, hangUp } = await scene(hooks);
    const source = Readable.from(['one,', 'two']);
    tapped.shield(source);
    await hangUp();
    source.destroy();
    source.pipe(response);
    expect((await hooks.answer.promise).body.toString()).toBe('one,two');
  });

  it('calls the end back all the same, since a handler may wait for it', async () => {
    const { response, hangUp } = await scene(new NotingHooks());
    await hangUp();
    let calls = 0;
    const [error] = await new Promise<unknown[]>((resolve) => {
      response.end('x', (...args: unknown[]) => {
        calls += 1;
        resolve(args);
      });
    });
    await turns();
    expect(calls).toBe(1);
    expect(error).toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE' });
  });

  it('gets nothing, and neither does anybody crash, when another answer should leave', async () => {
    const { response, closes, hangUp } = await scene(
      new NotingHooks({ held: () => Promise.resolve({ status: 409, headers: [], body: Buffer.from('no') }) }),
    );
    await hangUp();
    response.end('x');
    await turns();
    expect(closes).toEqual(['before', 'during']);
  });
});

describe('a client that goes between writes', () => {
  it('has its whole answer held', async () => {
    const hooks = new NotingHooks();
    const { response, hangUp } = await scene(hooks);
    response.write('one,');
    await hangUp();
    expect(response.write('two')).toBe(true);
    response.end();
    expect((await hooks.answer.promise).body.toString()).toBe('one,two');
  });

  it('goes while the hook decides: the response closes after that', async () => {
    const decision = deferred<undefined>();
    const hooks = new NotingHooks({ held: () => decision.promise });
    const { response, closes, hangUp } = await scene(hooks);
    response.end('x');
    await hangUp();
    expect(closes).toEqual([]);
    decision.resolve(undefined);
    await turns();
    expect(closes).toEqual(['before', 'during']);
  });

  it('is let through to nobody', async () => {
    const { response, tap: tapped, closes, hangUp } = await scene(new NotingHooks());
    response.write('x');
    await hangUp();
    tapped.letThrough();
    expect([response.destroyed, response.closed]).toEqual([true, true]);
    expect(closes).toEqual(['before', 'during']);
  });
});

describe('a client that had gone before the tap began', () => {
  it('is not noticed, and only those who have not heard of it hear of it afterwards', async () => {
    const arrived = deferred<ServerResponse>();
    server = await RawServer.start((_request, response) => arrived.resolve(response));
    const request = open(server.port);
    const response = await arrived.promise;
    const heard: string[] = [];
    response.on('close', () => heard.push('before'));
    const gone = once(response, 'close');
    request.destroy();
    await gone;
    const hooks = new NotingHooks();
    tap(response, hooks);
    const over = finished(response).catch((error: unknown) => error);
    expect([response.destroyed, response.closed]).toEqual([false, false]);
    response.once('close', () => heard.push('during'));
    Readable.from(['one,', 'two']).pipe(response);
    expect((await hooks.answer.promise).body.toString()).toBe('one,two');
    await over;
    expect(heard).toEqual(['before', 'during']);
    expect([response.destroyed, response.closed]).toEqual([true, true]);
  });
});

describe('a client that goes while the answer flows', () => {
  it('is noticed: the source is cut off, and the application may still end', async () => {
    const hooks = new NotingHooks();
    const { response, closes, hangUp } = await scene(hooks, { maxBodyBytes: 4 });
    response.write('12345');
    await once(response, 'drain');
    await hangUp();
    expect(closes).toEqual(['before', 'during']);
    const written = deferred();
    expect(response.write('more', () => written.resolve())).toBe(true);
    await written.promise;
    response.end();
    await turns();
    expect(hooks.calls).toEqual(['unholdable', 'flowed']);
    expect(closes).toEqual(['before', 'during']);
  });

  it('wakes a writer who waits for it to read', async () => {
    const hooks = new NotingHooks();
    const { response, hangUp } = await scene(hooks, { maxBodyBytes: 4 });
    response.write('12345');
    await once(response, 'drain');
    while (response.write(Buffer.alloc(1024 * 1024)));
    const drained = once(response, 'drain');
    await hangUp();
    await drained;
  });

  it('goes while the hook decides: what was kept is dropped, and its writers are called back', async () => {
    const decision = deferred<undefined>();
    const hooks = new NotingHooks({ unholdable: () => decision.promise });
    const { response, closes, hangUp } = await scene(hooks, { maxBodyBytes: 4 });
    const written = deferred();
    response.write('12345', () => written.resolve());
    await hangUp();
    expect(closes).toEqual([]);
    decision.resolve(undefined);
    await written.promise;
    expect(closes).toEqual(['before', 'during']);
    response.end();
    await turns();
    expect(hooks.calls).toEqual(['unholdable', 'flowed']);
  });
});

describe('an answer that never comes', () => {
  it('is given up when the handler is done, the client is gone and nobody has written for long', async () => {
    const clock = new HandClock();
    const hooks = new NotingHooks();
    const { response, tap: tapped, closes, hangUp } = await scene(hooks, { clock });
    expect(clock.waiting).toBe(0);
    await hangUp();
    expect(clock.waiting).toBe(0);
    tapped.handlerDone();
    response.write('a sign of life');
    expect(clock.waiting).toBe(1);
    expect(hooks.calls).toEqual([]);
    clock.ring();
    expect(hooks.calls).toEqual(['unanswered']);
    expect(closes).toEqual(['before', 'during']);
    response.end('too late');
    await turns();
    expect(hooks.calls).toEqual(['unanswered']);
  });

  it('is waited for without a clock while the client is there', async () => {
    const clock = new HandClock();
    const { response, tap: tapped } = await scene(new NotingHooks(), { clock });
    tapped.handlerDone();
    expect(clock.waiting).toBe(0);
    response.end();
  });

  it('leaves no timer once the answer has come', async () => {
    const clock = new HandClock();
    const hooks = new NotingHooks();
    const { response, tap: tapped, hangUp } = await scene(hooks, { clock });
    tapped.handlerDone();
    await hangUp();
    expect(clock.waiting).toBe(1);
    response.end('late but there');
    expect(clock.waiting).toBe(0);
    await hooks.answer.promise;
  });

  it('destroys a source at last that somebody wanted destroyed', async () => {
    const clock = new HandClock();
    const { response, tap: tapped, hangUp } = await scene(new NotingHooks(), { clock });
    const source = new Readable({ read: () => undefined });
    source.pipe(response);
    tapped.handlerDone();
    await hangUp();
    source.destroy();
    expect(source.destroyed).toBe(false);
    clock.ring();
    expect(source.destroyed).toBe(true);
  });

  it('is given up for a response that still queues behind another on a connection that closes', async () => {
    const clock = new HandClock();
    const hooks = new NotingHooks();
    const second = deferred<ResponseTap>();
    let requests = 0;
    server = await RawServer.start((_request, response) => {
      requests += 1;
      if (requests === 2) second.resolve(tap(response, hooks, { clock }));
    });
    const socket = net.connect(server.port, '127.0.0.1');
    const message = 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n';
    socket.write(message + message);
    const tapped = await second.promise;
    tapped.handlerDone();
    expect(clock.waiting).toBe(0);
    socket.destroy();
    while (clock.waiting === 0) await turns(1);
    clock.ring();
    expect(hooks.calls).toEqual(['unanswered']);
  });
});

describe('a request whose body is still coming when its client goes', () => {
  it('does not disturb the answer', async () => {
    const hooks = new NotingHooks();
    const arrived = deferred<{ request: IncomingMessage; response: ServerResponse }>();
    server = await RawServer.start((request, response) => {
      request.on('error', () => undefined);
      tap(response, hooks);
      arrived.resolve({ request, response });
    });
    const socket = net.connect(server.port, '127.0.0.1');
    socket.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc');
    const { request, response } = await arrived.promise;
    const closed = closeOf(request);
    socket.resetAndDestroy();
    await closed;
    response.end('done');
    expect((await hooks.answer.promise).body.toString()).toBe('done');
  });
});
