/**
 * Adds notes to an operation, and takes nothing away: where the user has said something about the same
 * header, answer or media type, his word stands, and only what he left open is filled in.
 */
import type { IdempotencyError } from '../contract/errors.js';
import { problemOf } from '../http/problem-details.js';
import type { ErrorFormat } from '../http/problem-details.js';
import type { Operation } from './handlers.js';
import type { Answer, Headers, Notes, Parameter } from './notes.js';
import { PROBLEM } from './problem-schema.js';

export interface Surroundings {
  readonly format: ErrorFormat;
  /** Parameters of the whole path. */
  readonly inherited: NonNullable<Operation['parameters']>;
  /** Parameters among the document's components. */
  readonly shared: Readonly<Record<string, Documented<Parameter>>>;
}

interface Reference {
  readonly $ref: string;
}
type Documented<Thing> = Thing | Reference;

export function annotated(operation: Operation, notes: Notes, surroundings: Surroundings): Operation {
  const responses = { ...operation.responses };
  for (const [status, answer] of Object.entries(responses)) {
    if (answer !== undefined && /^[23]/.test(status)) responses[status] = withHeaders(answer, notes.headers);
  }
  for (const [status, answer] of Object.entries(notes.answers)) responses[status] = merged(responses[status], answer);
  for (const [status, errors] of byStatus(notes.refusals)) {
    responses[status] = merged(responses[status], refusalAnswer(errors, surroundings.format));
  }
  const parameters = withParameters(operation.parameters ?? [], notes.parameters, surroundings);
  return { ...operation, ...(parameters.length === 0 ? {} : { parameters }), responses };
}

function byStatus(errors: readonly IdempotencyError[]): Map<string, IdempotencyError[]> {
  const sorted = new Map<string, IdempotencyError[]>();
  for (const error of errors) sorted.set(String(error.status), [...(sorted.get(String(error.status)) ?? []), error]);
  return sorted;
}

function refusalAnswer(errors: readonly IdempotencyError[], format: ErrorFormat): Answer {
  const problems = errors.map((error) => ({ error, ...problemOf(error, format) }));
  const examples = Object.fromEntries(problems.map(({ error, body }) => [error.code, { summary: error.title, value: body }]));
  const schema = { $ref: `#/components/schemas/${PROBLEM}` };
  return {
    description: errors.map(({ code, title }) => `\`${code}\`: ${title}.`).join('\n\n'),
    ...(errors.some(({ retryAfter }) => retryAfter !== undefined) ? { headers: RETRY_AFTER } : {}),
    content: Object.fromEntries(problems.map(({ contentType }) => [contentType, { schema, examples }])),
  };
}

const RETRY_AFTER: Headers = {
  'Retry-After': {
    description: 'Whole seconds after which another try makes sense.',
    schema: { type: 'integer', minimum: 1 },
  },
};

function merged(documented: Documented<Answer> | undefined, ours: Answer): Documented<Answer> {
  if (documented === undefined) return ours;
  if (isReference(documented)) return documented;
  const content = { ...documented.content };
  for (const [type, media] of Object.entries(ours.content ?? {})) content[type] = mergedMedia(content[type], media);
  return {
    ...ours,
    ...withHeaders(documented, ours.headers ?? {}),
    description: documented.description || ours.description, // the user's may be '', which is Swagger's for none
    ...(Object.keys(content).length === 0 ? {} : { content }),
  };
}

type Media = NonNullable<Answer['content']>[string];

/** OpenAPI allows `example` or `examples`, not both. */
function mergedMedia(documented: Media | undefined, ours: Media): Media {
  if (documented === undefined) return ours;
  const { examples, ...rest } = ours;
  if (documented.example !== undefined) return { ...rest, ...documented };
  return { ...rest, ...documented, examples: { ...examples, ...documented.examples } };
}

function withHeaders(answer: Documented<Answer>, headers: Headers): Documented<Answer>;
function withHeaders(answer: Answer, headers: Headers): Answer;
function withHeaders(answer: Documented<Answer>, headers: Headers): Documented<Answer> {
  if (isReference(answer)) return answer;
  const taken = new Set(Object.keys(answer.headers ?? {}).map((name) => name.toLowerCase()));
  const added = Object.entries(headers).filter(([name]) => !taken.has(name.toLowerCase()));
  return added.length === 0 ? answer : { ...answer, headers: { ...answer.headers, ...Object.fromEntries(added) } };
}

function withParameters(own: Surroundings['inherited'], ours: readonly Parameter[], surroundings: Surroundings): Surroundings['inherited'] {
  const filled = own.map((parameter) => {
    const note = isReference(parameter) ? undefined : ours.find((candidate) => isSame(parameter, candidate));
    return note === undefined || isReference(parameter) ? parameter : filledIn(parameter, note);
  });
  const documented = [...own, ...surroundings.inherited].map((parameter) => resolved(parameter, surroundings.shared));
  return [...filled, ...ours.filter((parameter) => !documented.some((other) => other !== undefined && isSame(other, parameter)))];
}

/** The names of header fields have no case (RFC 9110, section 5.1). */
function isSame(one: Parameter, other: Parameter): boolean {
  return one.in === other.in && one.name.toLowerCase() === other.name.toLowerCase();
}

function filledIn(documented: Parameter, note: Parameter): Parameter {
  const { example, ...rest } = note;
  const said = Object.fromEntries(Object.entries(documented).filter(([, value]) => value !== undefined)) as unknown as Parameter;
  const exemplified = said.examples !== undefined || (said.schema !== undefined && 'example' in said.schema);
  const schema = said.schema === undefined || isReference(said.schema) ? said.schema : { ...note.schema, ...said.schema };
  return {
    ...rest,
    ...(example === undefined || exemplified ? {} : { example }),
    ...said,
    ...(schema === undefined ? {} : { schema }),
  };
}

function resolved(parameter: Documented<Parameter>, shared: Surroundings['shared']): Parameter | undefined {
  if (!isReference(parameter)) return parameter;
  const found = shared[parameter.$ref.replace('#/components/parameters/', '')];
  return found === undefined || isReference(found) ? undefined : found;
}

function isReference(thing: object): thing is Reference {
  return '$ref' in thing;
}
