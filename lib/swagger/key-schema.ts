/** What a key looks like, as far as a schema can say it: a function that judges keys can't be shown. */
import { MAX_KEY_CHARACTERS } from '../engine/key.js';
import type { KeyFormat } from '../engine/key.js';
import type { Schema } from './problem-schema.js';

const UUID_EXAMPLE = '9b2f6c1e-5d0a-4a7e-8f43-2c6d1e90b7a5';

/** These change what is found where, not what a pattern accepts, or are what a schema has anyhow. */
const HARMLESS_FLAGS = /^[dgu]*$/;

export function keySchema(format: KeyFormat): { readonly schema: Schema; readonly example?: string } {
  const text: Schema = { type: 'string', minLength: 1, maxLength: MAX_KEY_CHARACTERS };
  if (format === 'any') return { schema: text, example: UUID_EXAMPLE };
  if (format === 'uuid') return { schema: { ...text, format: 'uuid' }, example: UUID_EXAMPLE };
  if (typeof format === 'function') return { schema: text };
  return {
    schema: HARMLESS_FLAGS.test(format.flags) ? { ...text, pattern: format.source } : text,
    ...(UUID_EXAMPLE.search(format) >= 0 ? { example: UUID_EXAMPLE } : {}),
  };
}
