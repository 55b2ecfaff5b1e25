/**
 * One logical call: one key for all its attempts, one deadline over them. What an answer means and how
 * long to wait is decided by the retry rules; here is only the order of things.
 */
import { IdempotentFetchError } from './errors.js';
import type { IdempotentFetchErrorCode } from './errors.js';
import type { IdempotentRequestInit } from './idempotent-fetch.js';
import type { Intents } from './intents.js';
import type { ResolvedOptions } from './options.js';
import { outgoing } from './outgoing.js';
import type { Outgoing } from './outgoing.js';
import { delayMs, meaningOf, retryAfterMs } from './retry-rules.js';
import type { Meaning } from './retry-rules.js';
import { openSpan } from './span.js';
import type { Span } from './span.js';

interface Call {
  readonly options: ResolvedOptions;
  readonly request: Outgoing;
  readonly span: Span;
  readonly streaming: boolean;
  /** Set when the key came from the store, or went there. */
  keptIntent?: string | undefined;
  key?: string | undefined;
  attempts: number;
}

interface Answer {
  readonly response: Response;
  readonly meaning: Meaning;
  readonly reason: 'in-use' | 'status';
  readonly cause?: undefined;
  /** Whether it was waited for to its end. */
  readonly whole: boolean;
}

interface NoAnswer {
  readonly response?: undefined;
  readonly meaning: 'retry';
  readonly reason: 'network' | 'timeout';
  readonly cause: unknown;
}

/** Asking twice does nothing twice (RFC 9110, 9.2.1), so that there is nothing for a key to protect. */
const SAFE_METHODS = /^(GET|HEAD|OPTIONS|TRACE)$/;
const VALID_KEY = /^[ -~]{1,255}$/;

export async function sendCall(
  options: ResolvedOptions,
  intents: Intents,
  input: string | URL | Request,
  { intent, idempotencyKey, streaming = false, ...init }: IdempotentRequestInit,
): Promise<Response> {
  const request = outgoing(input, init);
  const { callerSignal } = request;
  const span = openSpan(options.clock, options.deadlineMs, callerSignal);
  const call: Call = { options, request, span, streaming, attempts: 0 };
  try {
    refuseUnsendable(call);
    await setKey(call, intents, idempotencyKey, intent);
    const answer = await untilAnswered(call);
    await settle(call, intents, answer);
    return answer.response;
  } catch (error) {
    if (callerSignal?.aborted) throw callerSignal.reason;
    throw span.signal.aborted ? failure(call, 'deadline', error) : error;
  } finally {
    span.close();
  }
}

function refuseUnsendable(call: Call): void {
  if (call.request.used) throw failure(call, 'body-not-repeatable');
  // Somebody else's fetch may know more addresses, such as ones that are relative to a base of its own.
  if (!call.options.fetch) call.request.check();
}

async function setKey(call: Call, intents: Intents, given: string | undefined, intent: string | undefined): Promise<void> {
  const { options, request, span } = call;
  call.key = given ?? request.headers.get(options.header) ?? undefined;
  if (call.key === undefined) {
    if (SAFE_METHODS.test(request.method)) return;
    call.keptIntent = intent;
    // Where the store fails, so does the call: a key that is nowhere written down would be another one after a reload.
    const kept = (name: string): Promise<string> =>
      intents.keyFor(name).catch((cause: unknown) => Promise.reject(failure(call, 'key-store', cause)));
    call.key = intent === undefined ? options.newKey() : await span.within(() => kept(intent));
  }
  if (!VALID_KEY.test(call.key)) throw failure(call, 'key-invalid');
  request.headers.set(options.header, call.key);
}

async function untilAnswered(call: Call): Promise<Answer> {
  for (;;) {
    const outcome = await attempt(call);
    const { meaning, response, reason, cause } = outcome;
    if (meaning !== 'retry') return outcome;
    const { attempts, key, options, span } = call;
    const pauseMs = delayMs(attempts, response ? retryAfterMs(response.headers, options.clock.now()) : 0, options);
    const over = whyOver(call, pauseMs);
    if (over) {
      if (response) return outcome;
      throw failure(call, over === 'attempts' ? reason : over, cause);
    }
    tell(options.onRetry, { attempt: attempts, delayMs: pauseMs, reason, status: response?.status, cause, key });
    response?.body?.cancel().catch(() => undefined); // frees the connection
    await span.pause(pauseMs);
  }
}

/** Why there is no further attempt. One whose turn would come after the deadline is given up at once, not at the deadline. */
function whyOver({ attempts, options, request, span }: Call, pauseMs: number): 'attempts' | IdempotentFetchErrorCode | undefined {
  if (attempts >= options.attempts) return 'attempts';
  if (!request.repeatable) return 'body-not-repeatable';
  return pauseMs >= span.leftMs() ? 'deadline' : undefined;
}

async function attempt(call: Call): Promise<Answer | NoAnswer> {
  const { options, request, span } = call;
  const { fetch = globalThis.fetch } = options;
  const limit = openSpan(options.clock, options.attemptTimeoutMs, span.signal);
  call.attempts += 1;
  try {
    const response = await limit.within(() => fetch(...request.parts(limit.signal)));
    return await limit.within(() => read(call, response));
  } catch (cause) {
    if (span.signal.aborted) throw cause;
    return { meaning: 'retry', reason: limit.signal.aborted ? 'timeout' : 'network', cause };
  } finally {
    limit.close();
  }
}

/**
 * Reads a copy of the answer to its end where the request has a key: an answer that breaks off has not
 * come, and the key is still needed. The original stays with the caller, and has its body in memory.
 */
async function read({ key, streaming }: Call, response: Response): Promise<Answer> {
  const { ok, status, headers } = response;
  const endless = /^text\/event-stream/i.test(headers.get('content-type') ?? '');
  const whole = key !== undefined && !(ok && (streaming || endless));
  const meaning = meaningOf(status, whole ? await response.clone().text() : '');
  return { response, meaning, whole, reason: status === 409 ? 'in-use' : 'status' };
}

async function settle({ options, key, keptIntent, span }: Call, intents: Intents, { response, meaning, whole }: Answer): Promise<void> {
  if (key === undefined) return;
  // A store that fails now costs nothing but a replay. The answer is here, and is not thrown away for it.
  if (keptIntent !== undefined && whole && meaning === 'final')
    await span.within(() => intents.drop(keptIntent, key)).catch(() => undefined);
  if (response.headers.get('idempotent-replayed') === 'true') tell(options.onReplay, { key, response });
}

/**
 * An observer's fault is its own, and must not turn a payment that was made into an error. Browsers
 * are told of it as of an event listener's; elsewhere there is nobody to tell.
 */
function tell<E>(hook: ((event: E) => unknown) | undefined, event: E): void {
  const { reportError } = globalThis as { readonly reportError?: (error: unknown) => void };
  new Promise((resolve) => resolve(hook?.(event))).catch((error: unknown) => reportError?.(error));
}

function failure({ attempts, key }: Call, code: IdempotentFetchErrorCode, cause?: unknown): IdempotentFetchError {
  return new IdempotentFetchError(code, attempts, key, cause);
}
