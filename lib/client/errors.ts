/**
 * What is thrown where no answer can be returned. A message never has the key in it, since messages
 * end up in logs; the error itself has it, for a caller who wants to go on with the same call.
 */
export type IdempotentFetchErrorCode = 'network' | 'timeout' | 'deadline' | 'body-not-repeatable' | 'key-invalid' | 'key-store';

const FAULTS: Readonly<Record<IdempotentFetchErrorCode, string>> = {
  network: 'The connection failed',
  timeout: 'No answer came within attemptTimeoutMs',
  deadline: 'No answer came within deadlineMs',
  'body-not-repeatable': 'A stream can be sent only once: give the body as text, a Blob or FormData',
  'key-invalid': 'A key must have 1 to 255 printable ASCII characters',
  'key-store': 'The key store failed',
};

export class IdempotentFetchError extends Error {
  override readonly name = 'IdempotentFetchError';
  /** Behind a getter, so that it is not among what loggers print of an error. */
  readonly #key: string | undefined;

  constructor(
    readonly code: IdempotentFetchErrorCode,
    /** How often the request was sent. With 0 nothing has happened; else it may have been carried out. */
    readonly attempts: number,
    key?: string,
    cause?: unknown,
  ) {
    const advice = key === undefined ? '' : ', and may have been carried out: try again with the same key';
    super(`${FAULTS[code]}. ${attempts === 0 ? 'Nothing was sent' : `The request was sent (attempts: ${attempts})${advice}`}.`, { cause });
    this.#key = key;
  }

  /** What the request was sent with. Hand it in as `idempotencyKey` to go on with the same logical call. */
  get key(): string | undefined {
    return this.#key;
  }
}
