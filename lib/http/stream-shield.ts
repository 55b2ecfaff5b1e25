/**
 * Keeps the sources of an answer open while it is being held. Frameworks destroy a stream once the
 * client has gone, to spare the reading; an answer that is kept needs all of it.
 */
import type { ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';

/**
 * From now on the stream ignores `destroy()`, unless it has an error or has been read to its end.
 * The returned function ends that, and makes up for a `destroy()` that was ignored.
 */
function shieldStream(stream: Readable): () => void {
  const own = Object.hasOwn(stream, 'destroy');
  const below = stream.destroy;
  let ignored = false;
  let lifted = false;

  const destroy = (error?: Error | null): Readable => {
    if (lifted || error || stream.readableEnded) return Reflect.apply(below, stream, [error ?? undefined]);
    ignored = true;
    return stream;
  };
  stream.destroy = destroy as typeof stream.destroy;

  return () => {
    if (lifted) return;
    lifted = true;
    if (stream.destroy === destroy) {
      if (own) stream.destroy = below;
      else Reflect.deleteProperty(stream, 'destroy');
    }
    if (ignored) stream.destroy();
  };
}

/** The streams that an answer is made from: those piped into it, and those announced before. */
export class AnswerSources {
  readonly #piped = new Set<Readable>();
  readonly #shields = new Map<Readable, () => void>();

  shield(stream: Readable): void {
    if (!this.#shields.has(stream)) this.#shields.set(stream, shieldStream(stream));
  }

  piped(stream: Readable): void {
    this.#piped.add(stream);
    this.shield(stream);
  }

  /** One that is taken off in good order has given what it should. */
  unpiped(stream: Readable): void {
    if (!hasFailed(stream)) this.#piped.delete(stream);
  }

  get failed(): boolean {
    for (const stream of this.#piped) if (hasFailed(stream)) return true;
    return false;
  }

  lift(): void {
    for (const lift of this.#shields.values()) lift();
    this.#shields.clear();
  }

  /** Nobody wants their bytes any more; they run to their end all the same, since a handler may wait for it. */
  runDry(response: ServerResponse): void {
    for (const stream of this.#piped) {
      stream.unpipe(response);
      stream.resume();
    }
    this.#piped.clear();
  }
}

function hasFailed(stream: Readable): boolean {
  return Boolean(stream.errored) || (stream.destroyed && !stream.readableEnded);
}
