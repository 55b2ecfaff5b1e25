/**
 * Watches one raw `ServerResponse` from the moment the handler may write to it, and holds every
 * byte back until somebody has said that it may leave.
 *
 * It decides nothing: what is kept, freed or sealed is the engine's to say, through the hooks. And
 * it knows no framework: Express hands it `res`, Fastify `reply.raw`.
 */
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import type { Clock } from '../contract/clock.js';
import type { RecordedResponse } from '../contract/recorded-response.js';
import { ApplicationView, headersSentError } from './application-view.js';
import { DrainRelay } from './drain-relay.js';
import { KeptParts } from './kept-parts.js';
import { setAnswerHead } from './replay.js';
import { ResponseCover } from './response-cover.js';
import { AnswerSources } from './stream-shield.js';
import { lastPart, setWrittenHead, writtenPart, type Callback } from './written-parts.js';

/** Status and headers as the application meant them, before any middleware below us changes them. Names in lower case. */
export interface AnswerHead {
  readonly status: number;
  readonly headers: Readonly<OutgoingHttpHeaders>;
}

export interface HeldAnswer extends AnswerHead {
  readonly body: Buffer;
  /** A source that was piped into the response failed: what was written is not the whole answer. */
  readonly truncated: boolean;
}

/** What leaves in place of what the application wrote. */
export type Instead = RecordedResponse;

export interface TapHooks {
  /**
   * The whole answer is here and nothing has left. Once this resolves it leaves, or what it resolves
   * to instead. It must not wait for the handler, which may itself be waiting for its answer to be
   * finished (`await pipeline(file, response)`).
   */
  held(answer: HeldAnswer): Promise<Instead | undefined>;
  /**
   * The answer can't be held: it is larger than `maxBodyBytes`, an event stream, or has trailers.
   * Nothing has left; once this resolves the bytes flow as they come, or `Instead` leaves and the
   * application's bytes are dropped.
   */
  unholdable(head: AnswerHead): Promise<Instead | undefined>;
  /** The application ended an answer that flowed. Its last bytes leave when this resolves. */
  flowed(): Promise<void>;
  /**
   * There will be no answer: the application destroyed the response, or the client is gone, the
   * handler is done, and nothing has been written for `patienceMs`. Called at most once, and never
   * after `held` or `flowed`.
   */
  unanswered(): void;
}

export interface TapOptions {
  readonly maxBodyBytes: number;
  readonly patienceMs: number;
  /** Headers that the framework keeps elsewhere until it writes (Fastify's reply), as they were before the handler. */
  readonly pendingHeaders: OutgoingHttpHeaders;
  readonly clock: Clock;
}

export interface ResponseTap {
  /** Stops holding for good: the application's writes go straight to the wire, and no hook is called any more. */
  letThrough(): void;
  /** The handler's own work is over; from here on `patienceMs` counts. */
  handlerDone(): void;
  /** Announces a stream that will become the answer: until then too, a client that goes must not destroy it. */
  shield(stream: Readable): void;
}

export { shieldStream } from './stream-shield.js';

export function tapResponse(response: ServerResponse, options: TapOptions, hooks: TapHooks): ResponseTap {
  return new Tap(response, options, hooks);
}

/**
 * A tap is *holding* until the application ends its answer, and *held* while the hook of that name
 * decides. An answer that can't be held makes it *asking* instead; if it may leave, the tap is
 * *pouring* what was kept until then as fast as the client reads, *flowing* while the application
 * writes straight through, and *ending* while `flowed` decides about the last bytes. Where something
 * else leaves before the application has ended, it is *dropping* what still comes. At last it is
 * *over*, and the response is as if we had never been there.
 */
type Phase = 'holding' | 'held' | 'asking' | 'pouring' | 'flowing' | 'ending' | 'dropping' | 'over';

/** For a hook that failed. Why it did is for its own log, never for the client. */
const FAILED: Instead = {
  status: 500,
  headers: [['content-type', 'application/json; charset=utf-8']],
  body: Buffer.from('{"statusCode":500,"message":"Internal server error"}'),
};

class Tap implements ResponseTap {
  readonly #cover: ResponseCover;
  readonly #view: ApplicationView;
  readonly #drain: DrainRelay;
  readonly #sources = new AnswerSources();
  readonly #kept = new KeptParts();
  /** The headers before the handler. */
  readonly #standing: OutgoingHttpHeaders;
  #phase: Phase = 'holding';
  #head: AnswerHead | undefined;
  #flushAsked = false;
  #hasTrailers = false;
  #ended = false;
  /** A write was answered with `false`, so somebody may wait for 'drain'. */
  #stalled = false;
  #endCallback: Callback | undefined;
  #handlerDone = false;
  #connectionLost = false;
  #queuedOn: Socket | undefined;
  #stopWaiting: () => void = nothing;

  constructor(
    private readonly response: ServerResponse,
    private readonly options: TapOptions,
    private readonly hooks: TapHooks,
  ) {
    this.#standing = Object.assign(response.getHeaders(), options.pendingHeaders);
    this.#cover = new ResponseCover(response);
    this.#view = new ApplicationView(response, this.#cover);
    this.#drain = new DrainRelay(response, this.#cover);
    this.#cover.put('writeHead', this.#writeHead);
    this.#cover.put('flushHeaders', this.#flushHeaders);
    this.#cover.put('addTrailers', this.#addTrailers);
    this.#cover.put('write', this.#write);
    this.#cover.put('end', this.#end);
    this.#cover.put('destroy', this.#destroy);
    this.#cover.put('emit', this.#emit);
    // A response that queues behind others on its connection is not told when that closes.
    if (response.socket === null) this.#queuedOn = response.req.socket?.once('close', this.#loseConnection);
  }

  letThrough(): void {
    if (this.#phase === 'over' || this.#phase === 'dropping') return;
    this.#leave(() => {
      if (this.#ended) return this.#endBelow();
      this.#sendHead();
      this.#kept.pour((bytes) => this.#writeBelow(bytes) || true, 0);
      this.#wake();
    });
  }

  handlerDone(): void {
    this.#handlerDone = true;
    this.#waitForWriter();
  }

  shield(stream: Readable): void {
    if (this.#conceals) this.#sources.shield(stream);
  }

  // What the application calls:

  readonly #writeHead = (...args: unknown[]): unknown => {
    if (!this.#conceals) return this.#cover.below('writeHead', args);
    if (this.#head) throw headersSentError();
    setWrittenHead(this.response, args);
    this.#head = { status: this.response.statusCode, headers: this.response.getHeaders() };
    this.#view.showHeadSent();
    if (this.#hasTrailers || isUnholdable(this.#head)) void this.#ask(this.#head);
    return this.response;
  };

  readonly #flushHeaders = (): unknown => {
    if (!this.#conceals) return this.#cover.below('flushHeaders', []);
    this.#flushAsked = true;
    this.#knownHead();
    return undefined;
  };

  readonly #addTrailers = (...args: unknown[]): unknown => {
    this.#hasTrailers = true;
    if (this.#phase === 'holding' && this.#head) void this.#ask(this.#head);
    return this.#cover.below('addTrailers', args); // Node notes them down and sends nothing yet
  };

  readonly #write = (...args: unknown[]): unknown => {
    switch (this.#phase) {
      case 'over':
        return this.#cover.below('write', args);
      case 'flowing':
        this.#waitForWriter();
        return this.response.destroyed ? sink(writtenPart(args).callback) : this.#cover.below('write', args);
      case 'dropping':
        return sink(writtenPart(args).callback);
    }
    const { bytes, callback } = writtenPart(args);
    // No 'error' event either: without us the response would be closed by now, and a closed one emits none.
    if (this.#ended) return !sink(callback, writeAfterEnd());
    this.#waitForWriter();
    return this.#keep(this.#knownHead(), bytes, callback);
  };

  readonly #end = (...args: unknown[]): unknown => {
    if (this.#phase === 'over') return this.#cover.below('end', args);
    const { bytes, callback } = lastPart(args);
    if (this.#ended || this.#phase === 'dropping') {
      sink(callback, this.#ended && bytes ? writeAfterEnd() : undefined);
      if (this.#phase === 'dropping') this.#over();
      return this.response;
    }
    this.#endAnswer(bytes, callback);
    return this.response;
  };

  readonly #destroy = (...args: unknown[]): unknown => {
    if (this.#phase === 'over') return this.#cover.below('destroy', args);
    // While another answer leaves, the application can only give up its own.
    if (this.#phase === 'dropping') this.#over();
    else this.#giveUp(() => this.#cover.below('destroy', args));
    return this.response;
  };

  readonly #emit = (...args: unknown[]): unknown => {
    const [event, subject] = args;
    if (event === 'close') return this.#close(args);
    if (event === 'pipe') this.#pipe(subject as Readable);
    if (event === 'unpipe') this.#sources.unpiped(subject as Readable);
    return this.#cover.below('emit', args);
  };

  // What we make of it:

  /** Whether nothing has left yet, and the application sees its own progress and no client. */
  get #conceals(): boolean {
    return this.#phase === 'holding' || this.#phase === 'asking' || this.#phase === 'held';
  }

  /** Through the response, so that a listener for the head that has stepped in front of us hears of it. */
  #knownHead(): AnswerHead {
    if (!this.#head) this.response.writeHead(this.response.statusCode);
    if (!this.#head) throw headersSentError();
    return this.#head;
  }

  #keep(head: AnswerHead, bytes: Buffer | undefined, callback: Callback | undefined): boolean {
    if (!bytes || bytes.length === 0 || isBodyless(head.status)) return sink(callback);
    if (this.#phase === 'holding' && this.#kept.size + bytes.length <= this.options.maxBodyBytes) {
      this.#kept.add(bytes);
      return sink(callback);
    }
    this.#kept.add(bytes, callback);
    if (this.#phase === 'holding') void this.#ask(head);
    this.#stalled = true;
    return false;
  }

  #endAnswer(bytes: Buffer | undefined, callback: Callback | undefined): void {
    const flowing = this.#phase === 'flowing';
    const head = flowing ? this.#head : this.#knownHead();
    const truncated = this.#kept.count > 0 && this.#sources.failed;
    if (head) this.#keep(head, bytes, undefined);
    this.#ended = true;
    this.#stopWaiting();
    this.#view.showEnded();
    if (callback) {
      this.#endCallback = callback;
      this.response.once('finish', callback);
    }
    if (flowing) void this.#endFlow();
    else if (this.#phase === 'holding' && head) void this.#hold(head, truncated);
  }

  async #hold(head: AnswerHead, truncated: boolean): Promise<void> {
    this.#phase = 'held';
    const instead = await this.#decided(() => this.hooks.held({ ...head, body: this.#kept.joined(), truncated }));
    if (this.#phase !== 'held') return;
    this.#leave(() => (instead ? this.#sendBelow(instead) : this.#endBelow()));
  }

  async #ask(head: AnswerHead): Promise<void> {
    this.#phase = 'asking';
    const instead = await this.#decided(() => this.hooks.unholdable(head));
    if (this.#phase !== 'asking') return;
    if (instead) this.#replace(instead);
    else this.#startPouring();
  }

  /** A hook that failed must neither leave the client waiting nor let an answer out. */
  async #decided(ask: () => Promise<Instead | undefined>): Promise<Instead | undefined> {
    try {
      return await ask();
    } catch {
      return FAILED;
    }
  }

  #pipe(source: Readable): void {
    if (!this.#conceals) return;
    this.#sources.piped(source);
    this.#sources.shield(source);
  }

  // How it leaves:

  #startPouring(): void {
    this.#phase = 'pouring';
    this.#stepAside();
    this.#attempt(() => this.#sendHead());
    this.#view.tellClose();
    this.#pour();
  }

  #pour(): void {
    if (this.#phase !== 'pouring') return;
    let poured = false;
    this.#attempt(() => (poured = this.#kept.pour((bytes) => this.#writeBelow(bytes), this.#ended ? 1 : 0)));
    if (this.#phase !== 'pouring') return;
    if (!poured) this.#drain.wait(() => this.#pour());
    else if (this.#ended) void this.#endFlow();
    else this.#startFlowing();
  }

  #startFlowing(): void {
    this.#phase = 'flowing';
    this.#wake();
    this.#waitForWriter();
  }

  #wake(): void {
    this.#drain.wake(this.#stalled);
    this.#stalled = false;
  }

  async #endFlow(): Promise<void> {
    this.#phase = 'ending';
    // Without its end a client knows that the answer is not whole.
    const how = await this.hooks.flowed().then(
      () => () => this.#endBelow(),
      () => () => this.#cover.below('destroy', []),
    );
    if (this.#phase === 'ending') this.#leave(how);
  }

  #replace(instead: Instead): void {
    this.#kept.drop();
    if (this.#ended) return this.#leave(() => this.#sendBelow(instead));
    this.#phase = 'dropping';
    this.#stepAside();
    this.#attempt(() => this.#sendBelow(instead));
    this.#view.tellClose();
    this.#wake();
    this.#sources.runDry(this.response);
  }

  #giveUp(how: () => unknown): void {
    const decided = this.#phase === 'held' || this.#phase === 'ending';
    this.#leave(() => {
      this.#kept.drop();
      how();
    });
    if (!decided) this.hooks.unanswered();
  }

  #leave(send: () => unknown): void {
    this.#over();
    this.#attempt(send);
    this.#sources.lift();
    this.#view.tellClose();
    // Without a client there is no 'finish', and a handler that waits for it would stay for ever.
    if (this.#endCallback && this.response.destroyed && this.response.listeners('finish').includes(this.#endCallback)) {
      this.response.removeListener('finish', this.#endCallback);
      sink(this.#endCallback, prematureClose());
    }
  }

  /** What is underneath may throw, as a middleware's listener for the head can. Nobody is there to catch it any more. */
  #attempt(send: () => unknown): void {
    try {
      send();
    } catch {
      this.#over();
      this.#cover.below('destroy', []);
    }
  }

  #over(): void {
    this.#phase = 'over';
    this.#stopWaiting();
    this.#drain.stopWaiting();
    this.#queuedOn?.removeListener('close', this.#loseConnection);
    this.#view.reveal();
    this.#cover.lift();
  }

  /** Only `write` and `end` are still watched. */
  #stepAside(): void {
    this.#cover.lift(['addTrailers', 'flushHeaders', 'writeHead']);
    this.#view.reveal();
    this.#sources.lift();
  }

  /** A head without bytes, which the application has asked for; with bytes it goes by itself. */
  #sendHead(): void {
    if (!this.#head || this.#kept.count > 0 || this.#ended || this.response.headersSent) return;
    if (this.#flushAsked) this.#cover.below('flushHeaders', []);
    else this.#cover.below('writeHead', [this.#head.status]);
  }

  /** Whether more may follow at once. */
  #writeBelow(bytes: Buffer): boolean {
    return this.#cover.below('write', [bytes]) !== false || this.response.destroyed;
  }

  #endBelow(): void {
    this.#cover.below('end', this.#kept.count > 0 ? [this.#kept.joined()] : []);
  }

  #sendBelow(answer: RecordedResponse): void {
    setAnswerHead(this.response, this.#standing, answer);
    this.#cover.below('end', answer.body.length > 0 ? [answer.body] : []);
  }

  // The client:

  #close(args: readonly unknown[]): unknown {
    if (this.#conceals) {
      this.#view.withholdClose();
      this.#loseConnection();
      return false;
    }
    if (this.#phase === 'dropping') this.#over();
    const told = this.#cover.below('emit', args);
    this.#drain.stopWaiting();
    this.#pour();
    if (this.#phase === 'flowing') this.response.emit('drain'); // its writes go nowhere now, and need not wait
    this.#loseConnection();
    return told;
  }

  readonly #loseConnection = (): void => {
    this.#connectionLost = true;
    this.#waitForWriter();
  };

  /** With the client gone and the handler done, a writer may still come, from a timer or another stream, but it must show signs of life. */
  #waitForWriter(): void {
    if (!this.#handlerDone || !this.#connectionLost || this.#ended) return;
    this.#stopWaiting();
    this.#stopWaiting = this.options.clock.after(this.options.patienceMs, () => {
      if (this.#phase === 'holding' || this.#phase === 'flowing') this.#giveUp(nothing);
    });
  }
}

function isUnholdable({ headers }: AnswerHead): boolean {
  return headers.trailer !== undefined || /^\s*text\/event-stream\b/i.test(String(headers['content-type']));
}

function isBodyless(status: number): boolean {
  return status === 204 || status === 304 || status < 200;
}

/** Takes what nobody wants, and says that it went well or why it did not. */
function sink(callback: Callback | undefined, error?: Error): true {
  if (callback) process.nextTick(callback, error);
  return true;
}

function writeAfterEnd(): Error {
  return Object.assign(new Error('write after end'), { code: 'ERR_STREAM_WRITE_AFTER_END' });
}

function prematureClose(): Error {
  return Object.assign(new Error('Premature close'), { code: 'ERR_STREAM_PREMATURE_CLOSE' });
}

function nothing(): void {
  // there is nothing to do
}
