/** The body of this library's own answers, as a schema that all of them share. */
import type { OpenAPIObject } from '@nestjs/swagger';
import type { ErrorFormat } from '../http/problem-details.js';

export type Schema = Exclude<NonNullable<NonNullable<OpenAPIObject['components']>['schemas']>[string], { $ref: string }>;

/** Its name among the document's components. */
export const PROBLEM = 'IdempotencyProblem';

export function problemSchema(codes: readonly string[], format: ErrorFormat): Schema {
  const code: Schema = { type: 'string', enum: [...codes], description: 'For programs: it stays the same where the sentence may change.' };
  return format === 'problem' ? problemDetails(code) : nestBody(code);
}

/** RFC 9457, section 3.1, with our `code` as an extension member. */
function problemDetails(code: Schema): Schema {
  return {
    type: 'object',
    required: ['type', 'title', 'status', 'detail', 'code'],
    properties: {
      type: { type: 'string', format: 'uri', description: 'Names the kind of problem.' },
      title: { type: 'string', description: 'The same for every problem of this kind.' },
      status: { type: 'integer' },
      detail: { type: 'string', description: 'What happened, and what to do about it.' },
      code,
    },
  };
}

function nestBody(code: Schema): Schema {
  return {
    type: 'object',
    required: ['statusCode', 'error', 'code', 'message'],
    properties: {
      statusCode: { type: 'integer' },
      error: { type: 'string' },
      code,
      message: { type: 'string', description: 'What happened, and what to do about it.' },
    },
  };
}
