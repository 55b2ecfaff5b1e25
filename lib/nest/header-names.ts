/** Names of header fields in options: which are names at all, and which can't be replayed. */
import { shown } from './faults.js';

/** A token of RFC 9110, section 5.6.2. */
const FIELD_NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** RFC 9110, section 7.6.1, and Trailer, which announces what only a chunked message can carry. */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'proxy-connection',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

const NEVER_REPLAYED: Readonly<Record<string, string>> = {
  'set-cookie': 'hands out a session, which must not come out of a table',
  date: 'says when this very answer was made',
  'content-length': 'is computed from the bytes that are kept',
  'content-encoding': 'is decided for each client: bytes are kept before any content coding',
  'idempotent-replayed': 'is set by this module',
};

export function faultInHeaderNames(value: unknown): string | undefined {
  const names: readonly unknown[] = Array.isArray(value) ? value : [value];
  if (names.length === 0) return 'is an empty list';
  const wrong = names.find((name) => !isFieldName(name));
  return names.every(isFieldName) ? undefined : `has ${shown(wrong)}, which is no header name`;
}

export function faultInReplayHeaders(value: unknown): string | undefined {
  if (!Array.isArray(value)) return `is ${shown(value)}, which is no list`;
  const faults = (value as readonly unknown[]).flatMap((name) => {
    const fault = isFieldName(name) ? whyNotReplayed(name.toLowerCase()) : 'is no header name';
    return fault === undefined ? [] : [`${shown(name)}, which ${fault}`];
  });
  return faults.length === 0 ? undefined : `has ${faults.join('; and ')}`;
}

function whyNotReplayed(name: string): string | undefined {
  if (HOP_BY_HOP.has(name)) return 'belongs to one connection';
  if (name.startsWith('access-control-')) return 'is decided for each request by CORS';
  return Object.hasOwn(NEVER_REPLAYED, name) ? NEVER_REPLAYED[name] : undefined;
}

function isFieldName(name: unknown): name is string {
  return typeof name === 'string' && FIELD_NAME.test(name);
}
