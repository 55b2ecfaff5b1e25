/** What there is to say about one handler: which headers it takes and sends, and what it may be refused with. */
import type { IdempotencyError } from '../contract/errors.js';
import {
  DuplicateRequest,
  KeyInUse,
  KeyInvalid,
  KeyRequired,
  KeyReused,
  OutcomeUnknown,
  PreconditionFailed,
  PreconditionInvalid,
  PreconditionRequired,
  ResultNotReplayable,
  StoreUnavailable,
  TooManyKeys,
  TransactionFailed,
} from '../contract/errors.js';
import { REQUIRES_IF_MATCH, SENDS_VERSION } from '../nest/metadata.js';
import type { KeySource, ResolvedRoute } from '../nest/resolve-options.js';
import type { IdempotentRoutes } from '../nest/routes.js';
import type { Handler, Operation, Verb } from './handlers.js';
import { keySchema } from './key-schema.js';

export type Parameter = Exclude<NonNullable<Operation['parameters']>[number], { $ref: string }>;
export type Answer = Exclude<NonNullable<Operation['responses'][string]>, { $ref: string }>;
export type Headers = NonNullable<Answer['headers']>;

const COVERED_BY_IF_MATCH: ReadonlySet<Verb> = new Set(['put', 'patch', 'delete']);
const READING: ReadonlySet<Verb> = new Set(['get', 'head']);

export interface Notes {
  readonly parameters: readonly Parameter[];
  /** Examples of all that may be refused, one for each code; their status, headers and body are what clients get. */
  readonly refusals: readonly IdempotencyError[];
  /** On the handler's own answers below 400. */
  readonly headers: Headers;
  /** By status: answers that are neither refusals nor the handler's own. */
  readonly answers: Readonly<Record<string, Answer>>;
}

/** `verb` as OpenAPI writes it, in lower case. */
export function notesOf({ controller, method }: Handler, verb: Verb, routes: IdempotentRoutes): Notes {
  const route = routes.of({ getHandler: () => method as never, getClass: () => controller as never });
  const notes: Notes[] = [];
  if (route?.covers(verb.toUpperCase())) notes.push(route.settings.window === undefined ? keyed(route.settings) : unkeyed(route.settings));
  if (requiresIfMatch(controller, method, verb)) notes.push(CONDITIONAL);
  if (Reflect.hasMetadata(SENDS_VERSION, method)) notes.push(READING.has(verb) ? VERSIONED_READING : VERSIONED);
  return {
    parameters: notes.flatMap(({ parameters }) => parameters),
    refusals: notes.flatMap(({ refusals }) => refusals),
    headers: Object.assign({}, ...notes.map(({ headers }) => headers)) as Headers,
    answers: Object.assign({}, ...notes.map(({ answers }) => answers)) as Notes['answers'],
  };
}

function keyed(route: ResolvedRoute): Notes {
  const waits = route.waitMs > 0;
  return {
    ...NOTHING,
    parameters: [...keyParameters(route), ...(waits ? [PREFER] : [])],
    refusals: keyedRefusals(route),
    headers: { ...REPLAYED, ...(waits ? PREFERENCE_APPLIED : {}) },
  };
}

function keyedRefusals(route: ResolvedRoute): IdempotencyError[] {
  return [
    ...(route.required ? [new KeyRequired(route.keyFrom.label)] : []),
    new KeyInvalid('is empty'),
    new KeyInUse(route.retryAfterMs),
    ...(route.onLostExecution === 'reject' ? [new OutcomeUnknown()] : []),
    new ResultNotReplayable(),
    ...(canBeReused(route) ? [new KeyReused()] : []),
    ...(route.maxLiveKeys === undefined ? [] : [new TooManyKeys(route.retryAfterMs)]),
    new StoreUnavailable(),
    ...(route.atomic === undefined ? [] : [new TransactionFailed(true)]),
  ];
}

/** The request itself is what is known again: there is no key to send, to get wrong or to take twice. */
function unkeyed({ window, retentionMs }: ResolvedRoute): Notes {
  return {
    ...NOTHING,
    refusals: [new DuplicateRequest(retentionMs), new StoreUnavailable()],
    headers: window?.answer === 'replay' ? REPLAYED : {},
  };
}

/** On a class it covers the handlers that change what there is already, as the decorator has it. */
function requiresIfMatch(controller: Handler['controller'], method: Handler['method'], verb: Verb): boolean {
  if (Reflect.hasMetadata(REQUIRES_IF_MATCH, method)) return true;
  return COVERED_BY_IF_MATCH.has(verb) && Reflect.hasMetadata(REQUIRES_IF_MATCH, controller);
}

/** A natural key that is compared by itself alone, in a space of its own, is the same request by definition. */
function canBeReused({ keyFrom, fingerprint, operation }: ResolvedRoute): boolean {
  return keyFrom.kind === 'header' || fingerprint !== undefined || operation !== undefined;
}

function keyParameters({ keyFrom, keyFormat, required }: ResolvedRoute): Parameter[] {
  if (keyFrom.kind !== 'header') return [];
  const { schema, example } = keySchema(keyFormat);
  return keyFrom.written.map((name) => ({
    name,
    in: 'header',
    // Of several names any one will do, which a document can't say but in words.
    required: required && keyFrom.written.length === 1,
    description: `${KEY}${required ? '' : WITHOUT_KEY}${oneOf(keyFrom)}`,
    schema,
    ...(example === undefined ? {} : { example }),
  }));
}

function oneOf({ written }: KeySource & { readonly kind: 'header' }): string {
  return written.length === 1 ? '' : ` Send it in one of these headers: ${written.join(', ')}.`;
}

const KEY =
  'Makes this operation safe to retry: it is carried out once for a key, and every later request with that key gets the first answer. ' +
  'Make a new key for a new operation, and send the same one with each of its retries.';
const WITHOUT_KEY = ' Without one, the operation is carried out every time.';

const REPLAYED: Headers = {
  'Idempotent-Replayed': {
    description: 'There when this is the answer of an earlier request with the same key, given again.',
    schema: { type: 'string', enum: ['true'] },
  },
};

const PREFER: Parameter = {
  name: 'Prefer',
  in: 'header',
  required: false,
  description: '`wait=n` shortens the wait for the answer of a request that is still running with the same key, to n seconds (RFC 7240).',
  schema: { type: 'string' },
  example: 'wait=5',
};

const PREFERENCE_APPLIED: Headers = {
  'Preference-Applied': { description: 'The `wait` of the request’s `Prefer`, where it was honoured.', schema: { type: 'string' } },
};

const NOTHING: Notes = { parameters: [], refusals: [], headers: {}, answers: {} };

/** RFC 9110, section 13.1.1; the status for none at all is of RFC 6585, section 3. */
const CONDITIONAL: Notes = {
  ...NOTHING,
  parameters: [
    {
      name: 'If-Match',
      in: 'header',
      required: true,
      description: 'The `ETag` of what is to be changed, as it was read: it is only changed while it is in that version.',
      schema: { type: 'string' },
      example: '"3"',
    },
  ],
  refusals: [new PreconditionInvalid(), new PreconditionFailed(), new PreconditionRequired()],
};

const ETAG: Headers = {
  ETag: { description: 'The version, for `If-Match` and `If-None-Match`.', schema: { type: 'string' }, example: '"3"' },
};

const VERSIONED: Notes = { ...NOTHING, headers: ETAG };

/** RFC 9110, section 13.1.2. */
const VERSIONED_READING: Notes = {
  ...VERSIONED,
  parameters: [
    {
      name: 'If-None-Match',
      in: 'header',
      required: false,
      description: 'The `ETag` of a copy that the client has: while that is current, the answer is 304 without a body.',
      schema: { type: 'string' },
      example: '"3"',
    },
  ],
  answers: { 304: { description: 'The client’s copy is current.', headers: ETAG } },
};
