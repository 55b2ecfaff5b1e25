/** What becomes of a response once a recorded answer has been sent on it; that it is sent is for the tests over HTTP. */
import { ServerResponse } from 'node:http';
import type { RequestListener } from 'node:http';
import { afterEach, describe, expect, it } from '@jest/globals';
import type { RecordedResponse } from '../../lib/contract/recorded-response.js';
import { replayResponse } from '../../lib/http/replay.js';
import { readExchange } from '../../lib/http/request-facts.js';
import { RawServer, send } from './support/raw-http.js';

const ANSWER: RecordedResponse = { status: 201, headers: [['x-kept', 'k']], body: Buffer.from('made') };

/** As Express makes its own kind out of Node's. */
const KIND = Object.create(ServerResponse.prototype) as object;

let server: RawServer | undefined;

afterEach(async () => {
  await server?.stop();
  server = undefined;
});

async function serve(listener: RequestListener): Promise<number> {
  server = await RawServer.start(listener);
  return server.port;
}

/** As a middleware does that has something to save first. */
function holdEndBack(response: ServerResponse): void {
  const { end } = response;
  response.end = ((...args: Parameters<typeof end>) => {
    setImmediate(() => end.apply(response, args));
    return response;
  }) as typeof end;
}

describe.each(["Node's", "a framework's"])('a response of %s kind that a recorded answer was sent on', (kind) => {
  const replayOn = (response: ServerResponse, answer = ANSWER): void => {
    if (kind !== "Node's") Object.setPrototypeOf(response, KIND);
    response.statusCode = 200;
    replayResponse(readExchange(response.req, response).response, answer, { 'x-extra': 'e' });
  };

  it('says to the end what was sent, whoever writes to it afterwards', async () => {
    let said: unknown;
    const port = await serve((_request, response) => {
      replayOn(response);
      response.once('finish', () => (said = [response.statusCode, response.statusMessage, { ...response.getHeaders() }]));
      response.statusCode = 500;
      response.setHeader('x-late', 'l');
      response.removeHeader('x-kept');
      response.writeHead(500).end('late');
    });
    expect(await send(port)).toMatchObject({ status: 201, statusMessage: 'Created', text: 'made', headers: { 'x-kept': 'k' } });
    expect(said).toEqual([201, 'Created', { 'x-kept': 'k', 'x-extra': 'e', 'content-length': 4 }]);
  });

  it('says so too where a middleware holds the end back', async () => {
    const said: unknown[] = [];
    const port = await serve((_request, response) => {
      holdEndBack(response);
      replayOn(response);
      response.statusCode = 500;
      said.push(response.statusCode);
      response.once('finish', () => said.push(response.statusCode));
    });
    expect(await send(port)).toMatchObject({ status: 201, text: 'made' });
    expect(said).toEqual([201, 201]);
  });

  it('looks as if its answer were still to come, until that has ended, too', async () => {
    const said: unknown[] = [];
    const port = await serve((_request, response) => {
      replayOn(response);
      said.push(response.writableEnded);
      response.writeHead(500).write('late');
      said.push(response.writableEnded);
      response.end();
      said.push(response.writableEnded);
    });
    expect(await send(port)).toMatchObject({ status: 201, text: 'made' });
    expect(said).toEqual([false, false, true]);
  });

  it('looks so as well where a middleware holds the end back', async () => {
    const said: unknown[] = [];
    const port = await serve((_request, response) => {
      holdEndBack(response);
      replayOn(response);
      said.push(response.writableEnded);
      response.end('late');
      said.push(response.writableEnded);
    });
    expect(await send(port)).toMatchObject({ status: 201, text: 'made' });
    expect(said).toEqual([false, true]);
  });

  it('says its own, and not that of another one', async () => {
    const sunk: ServerResponse[] = [];
    const port = await serve((request, response) => {
      replayOn(response, { ...ANSWER, status: request.url === '/first' ? 201 : 202 });
      sunk.push(response);
    });
    await send(port, { path: '/first' });
    await send(port, { path: '/second' });
    expect(sunk.map((response) => response.statusCode)).toEqual([201, 202]);
  });
});
