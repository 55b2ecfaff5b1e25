/**
 * Many clients in one process, each with a connection that stays and one request at a time: the next
 * one leaves when the answer is there. It knows sockets and clocks; what is asked and what is right
 * about an answer is the traffic's business.
 */
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { AnswerReader } from './answer-reader.js';
import type { Answer } from './answer-reader.js';
import type { RequestTemplate } from './request-template.js';

export interface Traffic {
  readonly request: RequestTemplate;
  /** The next request's key, any text where it has none. `undefined`: there is nothing left to ask. */
  next(): string | undefined;
  /** What is wrong with an answer, in words. */
  check(key: string, answer: Answer): string | undefined;
}

export interface Volley {
  readonly requests: number;
  /** From the first request to the last answer. */
  readonly seconds: number;
  /** Sorted. */
  readonly latenciesMs: Float64Array;
  readonly statuses: Readonly<Record<string, number>>;
  readonly replays: number;
  /** The first few, in words. */
  readonly faults: readonly string[];
}

const FAULTS_TOLD = 5;

export class Connections {
  readonly #clients: readonly Client[];

  private constructor(sockets: readonly Socket[]) {
    this.#clients = sockets.map((socket) => new Client(socket));
  }

  static async open(port: number, count: number): Promise<Connections> {
    const sockets = Array.from({ length: count }, () => connect({ port, host: '127.0.0.1', noDelay: true }));
    await Promise.all(sockets.map((socket) => once(socket, 'connect')));
    return new Connections(sockets);
  }

  get count(): number {
    return this.#clients.length;
  }

  /** Until the traffic ends or the time is over. Every request that has left is waited for. */
  async fire(traffic: Traffic, seconds = Infinity): Promise<Volley> {
    const tally = new Tally();
    const startedAt = performance.now();
    const until = startedAt + seconds * 1000;
    await Promise.all(this.#clients.map((client) => client.fire(traffic, until, tally)));
    return tally.sum((performance.now() - startedAt) / 1000);
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }
}

class Client {
  #onAnswer: (answer: Answer) => void = ignored;
  #onError: (error: Error) => void = ignored;
  readonly #reader = new AnswerReader((answer) => this.#onAnswer(answer));

  constructor(private readonly socket: Socket) {
    socket.on('data', (chunk: Buffer) => {
      try {
        this.#reader.read(chunk);
      } catch (error) {
        this.#onError(error as Error);
      }
    });
    socket.on('error', (error) => this.#onError(error));
    socket.on('close', () => this.#onError(new Error('The application closed a connection.')));
  }

  fire(traffic: Traffic, until: number, tally: Tally): Promise<void> {
    const request = Buffer.from(traffic.request.bytes);
    const { keyAt } = traffic.request;
    return new Promise((resolve, reject) => {
      let key: string | undefined;
      let sentAt = 0;
      const send = (now: number): void => {
        key = now < until ? traffic.next() : undefined;
        if (key === undefined) return resolve();
        if (keyAt !== undefined) request.write(key, keyAt, 'latin1');
        sentAt = now;
        this.socket.write(request);
      };
      this.#onError = reject;
      this.#onAnswer = (answer) => {
        const now = performance.now();
        tally.note(answer, now - sentAt, traffic.check(key ?? '', answer));
        send(now);
      };
      send(performance.now());
    });
  }

  close(): void {
    this.#onError = ignored;
    this.socket.destroy();
  }
}

class Tally {
  readonly #latenciesMs: number[] = [];
  readonly #statuses = new Map<number, number>();
  readonly #faults: string[] = [];
  #replays = 0;

  note({ status, replayed }: Answer, latencyMs: number, fault: string | undefined): void {
    this.#latenciesMs.push(latencyMs);
    this.#statuses.set(status, (this.#statuses.get(status) ?? 0) + 1);
    if (replayed) this.#replays += 1;
    if (fault !== undefined && this.#faults.length < FAULTS_TOLD) this.#faults.push(fault);
  }

  sum(seconds: number): Volley {
    return {
      requests: this.#latenciesMs.length,
      seconds,
      latenciesMs: Float64Array.from(this.#latenciesMs).sort(),
      statuses: Object.fromEntries(this.#statuses),
      replays: this.#replays,
      faults: this.#faults,
    };
  }
}

function ignored(): void {
  // nobody is firing
}
