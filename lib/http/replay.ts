/**
 * Sends a whole answer on a raw response: a recorded one again, or one in place of what the
 * application wrote. What stood on the response before the handler stays; what describes another
 * answer's content goes.
 */
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { RecordedResponse } from '../contract/recorded-response.js';
import { isHttp2, setReason } from './http2.js';
import type { ResponseDoor } from './request-facts.js';

/**
 * Fields that belong to one answer's content or state. A framework sets some of them for the
 * current request (`@Header()`, content negotiation) before it is known that another answer leaves.
 */
const OF_ONE_ANSWER: ReadonlySet<string> = new Set([
  'content-type',
  'content-length',
  'content-encoding',
  'content-language',
  'content-location',
  'content-disposition',
  'content-range',
  'transfer-encoding',
  'trailer',
  'etag',
  'last-modified',
  'location',
]);

/** What the answer has of headers before the handler: often there are none on the response, and nothing to copy. */
export function standingHeaders(response: ServerResponse, pending: OutgoingHttpHeaders): OutgoingHttpHeaders {
  return response.getHeaderNames().length === 0 ? pending : Object.assign(response.getHeaders(), pending);
}

/** Sets status and headers, replacing all that the response has by `standing` and then `answer`. What stands already stays in its place. */
export function setAnswerHead(response: ServerResponse, standing: OutgoingHttpHeaders, answer: RecordedResponse): void {
  const { sendDate } = response;
  for (const name of response.getHeaderNames()) {
    if (!Object.hasOwn(standing, name) || standing[name] === undefined || OF_ONE_ANSWER.has(name)) response.removeHeader(name);
  }
  response.sendDate = sendDate; // removing a Date that was set means “none” to Node
  for (const name of Object.keys(standing)) {
    const value = standing[name];
    if (value === undefined || OF_ONE_ANSWER.has(name.toLowerCase()) || response.getHeader(name) === value) continue;
    response.setHeader(name, value);
  }
  for (const [name, value] of answer.headers) response.setHeader(name, value);
  // Said outright: where one has been removed before, Node would send the body in chunks instead.
  if (answer.status !== 204 && answer.status !== 304) response.setHeader('content-length', answer.body.length);
  response.statusCode = answer.status;
  setReason(response, ''); // Node then takes the usual words for the status
}

/**
 * Sends the recorded answer, and lets whatever the framework still writes for this request run
 * into the void. `end` is the response's own as it is patched by then: a compressing middleware
 * codes the replay for the client that asks now.
 */
export function replayResponse(door: ResponseDoor, answer: RecordedResponse, extra: Readonly<Record<string, string>>): void {
  const { raw } = door;
  if (raw.headersSent) return; // a time-out outside of us has answered already
  setAnswerHead(raw, standingHeaders(raw, door.pendingHeaders()), answer);
  for (const [name, value] of Object.entries(extra)) raw.setHeader(name, value);
  if (answer.body.length > 0) raw.end(answer.body);
  else raw.end();
  if (isHttp2(raw) && !raw.writableEnded) door.divert(sinkBeside(raw));
  else sinkLateWrites(raw);
}

/**
 * For good: the response is over, and whoever writes to it now does not know. Fastify reads
 * `writableEnded` to warn about a second answer, and afterwards to see whether it has to wait for the
 * end: so it is told that the first is still to come, until its own has ended in the sink. The status
 * stays what was sent: access logs read it at the end.
 */
function sinkLateWrites(raw: ServerResponse): void {
  if (raw.headersSent) sinkBetween(raw);
  else sinkInFront(raw);
}

/**
 * Beside it, for the framework alone: HTTP/2's own `end`, which is still to come, writes by `write` and `writeHead` of the
 * response, so that nothing may stand there.
 */
function sinkBeside(raw: ServerResponse): ServerResponse {
  const sink = Object.assign(Object.create(raw) as ServerResponse & Sunk, SUNK, { [SENT_STATUS]: raw.statusCode });
  Object.defineProperty(sink, 'statusCode', SENT);
  Object.defineProperty(sink, 'writableEnded', ENDED);
  return sink;
}

const SENT_STATUS = Symbol('status that was sent');
const ENDED_AGAIN = Symbol('ended by whoever did not know');

interface Sunk {
  [SENT_STATUS]?: number;
  [ENDED_AGAIN]?: boolean;
}

/** One for all responses: with a getter of its own each of them would be of a kind of its own to V8, and slow to the end. */
const SENT = {
  configurable: true,
  get(this: Sunk): number | undefined {
    return this[SENT_STATUS];
  },
  set: nothing,
};

const ENDED = {
  configurable: true,
  get(this: Sunk): boolean {
    return this[ENDED_AGAIN] === true;
  },
};

const SUNK_HEADERS = { setHeader: itself, setHeaders: itself, appendHeader: itself, removeHeader: nothing };

const SUNK = { ...SUNK_HEADERS, flushHeaders: nothing, addTrailers: nothing, writeHead: itself, write: swallow, end };

/** Listed once, since each replay goes through them. */
const SUNK_MEMBERS = Object.entries(SUNK);

/** Between the response and its prototype, as one sink for all responses of a kind: ten members on each of them are slow. */
function sinkBetween(raw: ServerResponse): void {
  const below = Object.getPrototypeOf(raw) as object;
  let sink = sinks.get(below);
  if (sink === undefined) {
    sink = Object.assign(Object.create(below) as object, SUNK);
    Object.defineProperty(sink, 'statusCode', SENT);
    Object.defineProperty(sink, 'writableEnded', ENDED);
    sinks.set(below, sink);
  }
  for (const [name, sunk] of SUNK_MEMBERS) if (Object.hasOwn(raw, name)) Object.assign(raw, { [name]: sunk }); // a middleware's
  keepStatus(raw);
  Object.setPrototypeOf(raw, sink);
}

/**
 * Notes the status, and takes it off the response so that the sink's is seen. V8 forgets a property in passing only
 * where it came last; `statusMessage` comes after it, as Node sets it with the head.
 */
function keepStatus(raw: ServerResponse): void {
  const { statusCode } = raw;
  const own = Object.hasOwn(raw, 'statusMessage');
  const statusMessage = own ? raw.statusMessage : '';
  if (own) Reflect.deleteProperty(raw, 'statusMessage');
  Reflect.deleteProperty(raw, 'statusCode');
  (raw as Sunk)[SENT_STATUS] = statusCode;
  (raw as Sunk)[ENDED_AGAIN] = false; // now, as V8 has it: what is added behind a new prototype makes a response one of its own kind
  if (own) raw.statusMessage = statusMessage;
}

/** A cache of what a prototype alone decides. */
const sinks = new WeakMap<object, object>();

/**
 * On the response itself, where a middleware holds `end` back, for instance until a session is saved. The head that is
 * still due goes its usual way then, past all who listen for it: it is `_implicitHeader` by which Node writes it.
 */
function sinkInFront(raw: ServerResponse): void {
  const { statusCode, writeHead } = raw;
  const headers = { setHeader: raw.setHeader, setHeaders: raw.setHeaders, appendHeader: raw.appendHeader, removeHeader: raw.removeHeader };
  Object.assign(raw, SUNK, {
    _implicitHeader(): void {
      Object.assign(raw, headers);
      writeHead.call(raw, statusCode);
      Object.assign(raw, SUNK_HEADERS);
    },
  });
  Object.defineProperty(raw, 'writableEnded', ENDED);
  (raw as Sunk)[SENT_STATUS] = statusCode;
  Object.defineProperty(raw, 'statusCode', SENT);
}

function itself(this: unknown): unknown {
  return this;
}

function swallow(...args: unknown[]): boolean {
  callBack(args);
  return true;
}

function end(this: Sunk, ...args: unknown[]): unknown {
  callBack(args);
  this[ENDED_AGAIN] = true;
  return this;
}

function nothing(): void {
  // there is nothing to do
}

function callBack(args: readonly unknown[]): void {
  const callback = args.find((arg) => typeof arg === 'function');
  if (callback !== undefined) process.nextTick(callback);
}
