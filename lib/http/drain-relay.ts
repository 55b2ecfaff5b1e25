/**
 * 'drain' to and fro. A compressing middleware leads the listeners of that event to a stream of its
 * own, where nobody else can wake them; so while bytes are held they stay with the response, and
 * move on when the application's writes go straight through.
 */
import { EventEmitter } from 'node:events';
import type { ServerResponse } from 'node:http';
import type { ResponseCover } from './response-cover.js';

type Listener = (...args: unknown[]) => void;

export class DrainRelay {
  /** Where a middleware has its own way with listeners. */
  #caught: Listener[] | undefined;
  #task: Listener | undefined;

  constructor(
    private readonly response: ServerResponse,
    private readonly cover: ResponseCover,
  ) {
    if (!Object.hasOwn(response, 'on')) return;
    const caught: Listener[] = [];
    this.#caught = caught;
    cover.put('on', (event: string, listener: Listener): unknown => {
      if (event !== 'drain') return cover.below('on', [event, listener]);
      caught.push(listener);
      return EventEmitter.prototype.on.call(response, event, listener);
    });
  }

  /** Runs `task` once, when what was written has really gone. */
  wait(task: () => void): void {
    const listener = (): void => {
      if (this.#task !== listener) return;
      this.stopWaiting();
      task();
    };
    this.#task = listener;
    this.cover.below('on', ['drain', listener]);
  }

  stopWaiting(): void {
    if (this.#task) this.response.removeListener('drain', this.#task);
    this.#task = undefined;
  }

  /** Tells the application that it may go on, if it waits, and gives its listeners to whoever wanted them. */
  wake(waiting: boolean): void {
    if (waiting) this.response.emit('drain');
    if (this.#caught === undefined) return;
    const left = this.response.rawListeners('drain');
    for (const listener of this.#caught.splice(0)) {
      if (!left.includes(listener)) continue;
      this.response.removeListener('drain', listener);
      this.cover.below('on', ['drain', listener]);
    }
    this.cover.lift(['on']);
  }
}
