/** What the tap's own tests can't tell: how the cover stands, and that nothing of it is left. */
import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { ResponseCover, type Fronts } from '../../lib/http/response-cover.js';
import { traces } from './support/raw-http.js';

let response: ServerResponse;
let calls: string[];

/** As Express makes its own kind out of Node's. */
const KIND = Object.create(ServerResponse.prototype) as object;

const make = {
  "Node's": () => new ServerResponse(new IncomingMessage(new Socket())),
  "a framework's": () => Object.setPrototypeOf(make["Node's"](), KIND) as ServerResponse,
};

function front(name: string): () => void {
  return () => void calls.push(name);
}

describe.each(["Node's", "a framework's"] as const)('a cover of a response of %s kind', (kind) => {
  beforeEach(() => {
    response = make[kind]();
    calls = [];
  });

  it('leaves nothing on the response, be it by name or by its kind', () => {
    const before = traces(response);
    const cover = new ResponseCover(response);
    cover.put('write', front('write'));
    cover.put('flush', front('flush')); // none of those that every answer uses
    cover.show('headersSent', true);
    cover.lift();
    expect(traces(response)).toEqual(before);
    expect('flush' in response).toBe(false);
    expect(response.headersSent).toBe(false);
  });

  it('belongs to one response: another one of the same kind is as before', () => {
    const other = make[kind]();
    const covers = [new ResponseCover(response), new ResponseCover(other)];
    covers[0]?.put('end', front('first'));
    covers[1]?.put('end', front('second'));
    covers[0]?.show('writableEnded', true);
    other.end();
    response.end();
    expect(calls).toEqual(['second', 'first']);
    expect([response.writableEnded, other.writableEnded]).toEqual([true, false]);
  });

  it('shows what it is told, and the response as it is once that is over', () => {
    const cover = new ResponseCover(response);
    cover.show('closed', false);
    cover.show('headersSent', true);
    expect([response.closed, response.headersSent, response.writableEnded]).toEqual([false, true, false]);
    cover.lift(['headersSent']);
    expect(response.headersSent).toBe(false);
  });

  it('covers what a middleware has put on the response, and puts it back', () => {
    const theirs = front('theirs') as typeof response.end;
    response.end = theirs;
    const cover = new ResponseCover(response);
    cover.put('end', front('ours'));
    response.end();
    cover.below('end', []);
    cover.lift();
    expect(response.end).toBe(theirs);
    expect(calls).toEqual(['ours', 'theirs']);
  });

  it('leaves whoever has stepped in front of it since then, and serves them on', () => {
    const cover = new ResponseCover(response);
    cover.put('setHeader', (...args: unknown[]) => cover.below('setHeader', args));
    const { setHeader } = response;
    const theirs = ((...args: Parameters<typeof setHeader>) => setHeader.apply(response, args)) as typeof setHeader;
    response.setHeader = theirs;
    response.setHeader('x-a', 'covered');
    cover.lift();
    response.setHeader('x-b', 'passed on');
    expect(response.setHeader).toBe(theirs);
    expect({ ...response.getHeaders() }).toEqual({ 'x-a': 'covered', 'x-b': 'passed on' });
  });

  it('serves an object that is derived from the response', () => {
    new ResponseCover(response).put('end', front('ours'));
    (Object.create(response) as ServerResponse).end();
    expect(calls).toEqual(['ours']);
  });

  it('stands before an earlier one until it is lifted', () => {
    const before = traces(response);
    const first = new ResponseCover(response);
    first.put('end', front('first'));
    first.show('writableEnded', true);
    const second = new ResponseCover(response);
    second.put('end', front('second'));
    second.show('headersSent', true);
    response.end();
    second.below('end', []);
    expect(calls).toEqual(['second', 'first']);
    expect([response.headersSent, response.writableEnded]).toEqual([true, true]);
    second.lift();
    response.end();
    expect(calls).toEqual(['second', 'first', 'first']);
    first.lift();
    expect([response.headersSent, response.writableEnded]).toEqual([false, false]);
    expect(traces(response)).toEqual(before);
  });

  const FRONTS: Fronts<string> = {
    writeHead: (whose) => calls.push(`${whose}: writeHead`),
    end: (whose) => calls.push(`${whose}: end`),
    setHeader: (whose) => calls.push(`${whose}: setHeader`),
  };

  it('leaves not even a mark by which it would be known on a response of Node’s kind', () => {
    const before = Object.getOwnPropertySymbols(response);
    const cover = new ResponseCover(response);
    cover.stand(FRONTS, 'ours');
    cover.lift();
    if (kind === "Node's") expect(Object.getOwnPropertySymbols(response)).toEqual(before);
    expect(traces(response)).toMatchObject({ own: [] });
  });

  it('is called no more by whoever took a member off the response while it stood', () => {
    const cover = new ResponseCover(response);
    cover.stand(FRONTS, 'ours');
    const { setHeader, writeHead } = response;
    cover.lift(['writeHead']);
    writeHead.call(response, 202);
    setHeader.call(response, 'x-a', 'a');
    expect([calls, response.statusCode]).toEqual([['ours: setHeader'], 202]);
    cover.lift();
    expect(() => setHeader.call(response, 'x-a', 'a')).toThrow(expect.objectContaining({ code: 'ERR_HTTP_HEADERS_SENT' }));
    expect(calls).toEqual(['ours: setHeader']);
  });

  it('stands before a middleware that stepped in front of an earlier one, and before nothing twice', () => {
    const earlier = new ResponseCover(response);
    earlier.stand(FRONTS, 'earlier');
    const { setHeader } = response;
    response.setHeader = ((...args: Parameters<typeof setHeader>) => setHeader.apply(response, args)) as typeof setHeader;
    earlier.lift();
    const cover = new ResponseCover(response);
    cover.stand(FRONTS, 'ours');
    response.setHeader('x-a', 'a');
    cover.below('setHeader', ['x-b', 'b']);
    expect([calls, { ...response.getHeaders() }]).toEqual([['ours: setHeader'], { 'x-b': 'b' }]);
  });

  it.each(['first', 'second'])('goes on standing when of two the %s leaves before the other', (leaving) => {
    const first = new ResponseCover(response);
    first.stand(FRONTS, 'first');
    const second = new ResponseCover(response);
    second.stand({ setHeader: (_whose, args) => second.below('setHeader', args) }, undefined);
    (leaving === 'first' ? first : second).lift();
    response.setHeader('x-a', 'a');
    const reached = leaving === 'first' ? [] : ['first: setHeader'];
    expect([calls, { ...response.getHeaders() }]).toEqual([reached, leaving === 'first' ? { 'x-a': 'a' } : {}]);
    (leaving === 'first' ? second : first).lift();
    response.setHeader('x-b', 'b');
    expect(response.getHeader('x-b')).toBe('b');
    expect(calls).toEqual(reached);
  });
});
