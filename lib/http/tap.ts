/**
 * The life of a tap. A tap is *holding* until the application ends its answer, and *held* while the
 * hook of that name decides. An answer that can't be held makes it *asking* instead; if it may leave,
 * the tap is *pouring* what was kept until then as fast as the client reads, *flowing* while the
 * application writes straight through, and *ending* while `flowed` decides about the last bytes. Where
 * something else leaves before the application has ended, it is *dropping* what still comes. At last
 * it is *over*, and the response is as if we had never been there.
 */
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { ApplicationView, headersSentError } from './application-view.js';
import { DrainRelay } from './drain-relay.js';
import { hasClosed } from './http2.js';
import { KeptParts } from './kept-parts.js';
import { Patience } from './patience.js';
import { standingHeaders } from './replay.js';
import { ResponseCover, type Fronts } from './response-cover.js';
import type { AnswerHead, Instead, ResponseTap, TapHooks, TapOptions } from './response-tap.js';
import { AnswerSources } from './stream-shield.js';
import { Wire } from './wire.js';
import { lastPart, setWrittenHead, writtenPart, type Callback } from './written-parts.js';

/** A hook has been asked, and its answer says what comes next. */
type Deciding = 'held' | 'asking' | 'ending';

type Phase = Deciding | 'holding' | 'pouring' | 'flowing' | 'dropping' | 'over';

/** For a hook that failed. Why it did is for its own log, never for the client. */
const FAILED: Instead = {
  status: 500,
  headers: [['content-type', 'application/json; charset=utf-8']],
  body: Buffer.from('{"statusCode":500,"message":"Internal server error"}'),
};

export class Tap implements ResponseTap {
  readonly #cover: ResponseCover;
  readonly #view: ApplicationView;
  readonly #drain: DrainRelay;
  readonly #wire: Wire;
  /** Made when the client goes, since until then nobody counts. */
  #patience: Patience | undefined;
  #handlerDone = false;
  /** Made for the first stream. */
  #sources: AnswerSources | undefined;
  readonly #kept = new KeptParts();
  #phase: Phase = 'holding';
  #head: AnswerHead | undefined;
  #flushAsked = false;
  #hasTrailers = false;
  #ended = false;
  #endCallback: Callback | undefined;
  /** A write was answered with `false`, so somebody may wait for 'drain'. */
  #stalled = false;
  #queuedOn: Socket | undefined;
  #loseConnection: (() => void) | undefined;

  constructor(
    private readonly response: ServerResponse,
    private readonly options: TapOptions,
    private readonly hooks: TapHooks,
  ) {
    this.#cover = new ResponseCover(response);
    this.#view = new ApplicationView(response, this.#cover);
    this.#drain = new DrainRelay(response, this.#cover);
    this.#wire = new Wire(response, this.#cover, standingHeaders(response, options.pendingHeaders));
    this.#cover.stand(Tap.#fronts, this);
    if (this.#view.closeWithheld) this.#clientGone();
    // A response that queues behind others on its connection is not told when that closes.
    if (response.socket === null) {
      this.#loseConnection = () => this.#clientGone();
      this.#queuedOn = response.req.socket?.once('close', this.#loseConnection);
    }
  }

  static readonly #fronts: Fronts<Tap> = {
    writeHead: (tap, args) => tap.#writeHead(args),
    flushHeaders: (tap) => tap.#flushHeaders(),
    addTrailers: (tap, args) => tap.#addTrailers(args),
    write: (tap, args) => tap.#write(args),
    end: (tap, args) => tap.#end(args),
    destroy: (tap, args) => tap.#destroy(args),
    emit: (tap, args) => tap.#emit(args),
  };

  letThrough(): void {
    if (this.#phase === 'over' || this.#phase === 'dropping') return;
    this.#leave(() => {
      if (this.#ended) return this.#wire.end(this.#kept.joined());
      if (this.#head && this.#kept.count === 0) this.#wire.head(this.#flushAsked);
      this.#kept.pour((bytes) => this.#wire.write(bytes) || true, 0);
    });
    this.#wake();
  }

  handlerDone(): void {
    this.#handlerDone = true;
    this.#patience?.handlerDone();
  }

  shield(stream: Readable): void {
    if (this.#conceals) (this.#sources ??= new AnswerSources()).shield(stream);
  }

  // What the application calls:

  #writeHead(args: readonly unknown[]): unknown {
    if (!this.#conceals) return this.#cover.below('writeHead', args);
    if (this.#head) throw headersSentError();
    setWrittenHead(this.response, args);
    this.#head = { status: this.response.statusCode, headers: this.response.getHeaders() };
    this.#view.showHeadSent();
    if (this.#hasTrailers || isUnholdable(this.#head)) void this.#decide('asking');
    return this.response;
  }

  #flushHeaders(): unknown {
    if (this.#phase === 'ending') return undefined; // what has not been sent yet goes with the last bytes
    if (!this.#conceals) return this.#cover.below('flushHeaders', []);
    this.#flushAsked = true;
    this.#knownHead();
    return undefined;
  }

  #addTrailers(args: readonly unknown[]): unknown {
    this.#hasTrailers = true;
    if (this.#phase === 'holding' && this.#head) void this.#decide('asking');
    return this.#cover.below('addTrailers', args); // Node notes them down and sends nothing yet
  }

  #write(args: readonly unknown[]): unknown {
    this.#patience?.renew();
    if (this.#phase === 'over') return this.#cover.below('write', args);
    const nobodyReads = this.#phase === 'dropping' || (this.#phase === 'flowing' && hasClosed(this.response));
    if (nobodyReads) return sink(writtenPart(args).callback);
    if (this.#phase === 'flowing') return this.#cover.below('write', args);
    const { bytes, callback } = writtenPart(args);
    // No 'error' event either: without us the response would be closed by now, and a closed one emits none.
    if (this.#ended) return !sink(callback, fault('ERR_STREAM_WRITE_AFTER_END', 'write after end'));
    return this.#keep(this.#knownHead(), bytes, callback);
  }

  #end(args: readonly unknown[]): unknown {
    if (this.#phase === 'over') return this.#cover.below('end', args);
    const { bytes, callback } = lastPart(args);
    if (this.#ended) {
      sink(callback, bytes && fault('ERR_STREAM_WRITE_AFTER_END', 'write after end'));
    } else if (this.#phase === 'dropping') {
      sink(callback);
      this.#over();
    } else {
      this.#endAnswer(bytes, callback);
    }
    return this.response;
  }

  #destroy(args: readonly unknown[]): unknown {
    if (this.#phase === 'over') return this.#cover.below('destroy', args);
    // While another answer leaves, the application can only give up its own.
    if (this.#phase === 'dropping') this.#over();
    else this.#giveUp(() => this.#wire.cut(args));
    return this.response;
  }

  #emit(args: readonly unknown[]): unknown {
    const event = args[0];
    if (event === 'close') return this.#close(args);
    if (event === 'finish' && this.#conceals) return this.#view.withholdFinish();
    if (event === 'pipe' && this.#conceals) (this.#sources ??= new AnswerSources()).piped(args[1] as Readable);
    if (event === 'unpipe') this.#sources?.unpiped(args[1] as Readable);
    return this.#cover.below('emit', args);
  }

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

  /** Whether the writer may go on. */
  #keep(head: AnswerHead, bytes: Buffer | undefined, callback: Callback | undefined): boolean {
    if (!bytes || bytes.length === 0 || isBodyless(head.status)) return sink(callback);
    if (this.#phase === 'holding' && this.#kept.size + bytes.length <= this.options.maxBodyBytes) {
      this.#kept.add(bytes);
      return sink(callback);
    }
    this.#kept.add(bytes, callback);
    this.#stalled = true;
    if (this.#phase === 'holding') void this.#decide('asking');
    return false;
  }

  #endAnswer(bytes: Buffer | undefined, callback: Callback | undefined): void {
    const head = this.#knownHead();
    // A source that failed before its first bytes has left room for another answer, which is whole.
    const truncated = this.#kept.count > 0 && (this.#sources?.failed ?? false);
    this.#keep(head, bytes, undefined);
    this.#ended = true;
    this.#patience?.stop();
    this.#view.showEnded();
    if (callback) this.response.once('finish', callback);
    this.#endCallback = callback;
    if (this.#phase === 'holding') void this.#decide('held', truncated);
    else if (this.#phase === 'flowing') this.#endFlow();
  }

  #endFlow(): void {
    // A single part goes with the end, so the head may still be waiting too: a framework that saw it unsent would answer again.
    if (!this.response.headersSent) this.#view.showHeadSent();
    void this.#decide('ending');
  }

  /**
   * Asks the hook of a phase, and goes on from there unless something else has come of it meanwhile. A
   * hook that failed must neither leave the client waiting nor let an answer out.
   */
  async #decide(phase: Deciding, truncated = false): Promise<void> {
    this.#phase = phase;
    let instead: Instead | undefined;
    try {
      instead = (await this.#consult(phase, truncated)) ?? undefined;
    } catch {
      instead = FAILED;
    }
    if (this.#phase === phase) this.#goOn(phase, instead);
  }

  #consult(phase: Deciding, truncated: boolean): Promise<Instead | undefined | void> {
    if (phase === 'ending') return this.hooks.flowed();
    const head = this.#knownHead();
    if (phase === 'asking') return this.hooks.unholdable(head);
    return this.hooks.held({ status: head.status, headers: head.headers, body: this.#kept.joined(), truncated });
  }

  #goOn(phase: Deciding, instead: Instead | undefined): void {
    switch (phase) {
      case 'held':
        return this.#leave(() => (instead ? this.#wire.answer(instead) : this.#wire.end(this.#kept.joined())));
      case 'asking':
        return instead ? this.#replace(instead) : this.#startPouring();
      case 'ending':
        return this.#leave(() => (instead ? this.#wire.cut() : this.#wire.end(this.#kept.joined())));
    }
  }

  // How it leaves:

  #startPouring(): void {
    this.#phase = 'pouring';
    this.#stepAside();
    if (this.#kept.count === 0 && !this.#ended) this.#attempt(() => this.#wire.head(this.#flushAsked));
    this.#view.tellClose();
    this.#pour();
  }

  #pour(): void {
    if (this.#phase !== 'pouring') return;
    let poured = false;
    this.#attempt(() => (poured = this.#kept.pour((bytes) => this.#wire.write(bytes), this.#ended ? 1 : 0)));
    if (this.#phase !== 'pouring') return;
    if (!poured) return this.#drain.wait(() => this.#pour());
    if (this.#ended) return this.#endFlow();
    this.#phase = 'flowing';
    this.#wake();
    this.#patience?.renew();
  }

  #replace(instead: Instead): void {
    this.#kept.drop();
    if (this.#ended) return this.#leave(() => this.#wire.answer(instead));
    this.#phase = 'dropping';
    this.#stepAside();
    this.#attempt(() => this.#wire.answer(instead));
    this.#view.tellClose();
    this.#wake();
    this.#sources?.runDry(this.response);
  }

  #giveUp(how: () => unknown): void {
    const decided = this.#phase === 'held' || this.#phase === 'ending';
    this.#leave(how);
    if (!decided) this.hooks.unanswered();
  }

  #despair(): void {
    if (this.#phase === 'holding' || this.#phase === 'flowing') this.#giveUp(() => undefined);
  }

  #leave(send: () => unknown): void {
    this.#over();
    this.#attempt(send);
    this.#kept.drop();
    this.#sources?.lift();
    this.#view.tellClose();
    this.#callBackEnd();
  }

  /** What is underneath may throw, as a middleware's listener for the head can. Nobody is there to catch it any more. */
  #attempt(send: () => unknown): void {
    try {
      send();
    } catch {
      this.#over();
      this.#wire.cut();
    }
  }

  /** Without a client there is no 'finish', and a handler that waits for it would stay for ever. */
  #callBackEnd(): void {
    if (!this.#endCallback || !hasClosed(this.response) || !this.response.listeners('finish').includes(this.#endCallback)) return;
    this.response.removeListener('finish', this.#endCallback);
    sink(this.#endCallback, fault('ERR_STREAM_PREMATURE_CLOSE', 'Premature close'));
  }

  #wake(): void {
    this.#drain.wake(this.#stalled);
    this.#stalled = false;
  }

  /** Only `flushHeaders`, `write`, `end`, `destroy` and the events are still watched. */
  #stepAside(): void {
    this.#view.reveal();
    if (this.#ended) this.#view.showEnded();
    this.#cover.lift(['addTrailers', 'writeHead']);
    this.#sources?.lift();
  }

  #over(): void {
    this.#phase = 'over';
    this.#patience?.stop();
    this.#drain.stopWaiting();
    if (this.#loseConnection) this.#queuedOn?.removeListener('close', this.#loseConnection);
    this.#view.reveal();
    this.#cover.lift();
  }

  // The client goes:

  #close(args: readonly unknown[]): unknown {
    if (this.#conceals) {
      this.#view.withholdClose();
      this.#clientGone();
      return false;
    }
    if (this.#phase === 'dropping') this.#over();
    const told = this.#cover.below('emit', args);
    this.#drain.stopWaiting();
    this.#pour();
    if (this.#phase === 'flowing') this.response.emit('drain'); // writes go nowhere from now on, and need not wait
    this.#clientGone();
    return told;
  }

  #clientGone(): void {
    if (this.#ended || this.#phase === 'over') return; // nobody is waited for any more
    this.#patience ??= new Patience(this.options.clock, this.options.patienceMs, () => this.#despair());
    if (this.#handlerDone) this.#patience.handlerDone();
    this.#patience.clientGone();
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

function fault(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}
