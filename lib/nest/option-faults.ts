/**
 * What can be wrong with single options, each as the end of a sentence that begins with the option's
 * name; `undefined` if nothing is.
 */
import { MAX_KEY_CHARACTERS } from '../engine/key.js';
import { shown } from './faults.js';
import { faultInHeaderNames } from './header-names.js';

/** As much as the digest has: a shorter secret would be the easier thing to guess. */
const LEAST_SECRET_BYTES = 32;

/** Postgres cuts identifiers at 63 bytes, which would make two schemas one. */
const MOST_SCHEMA_BYTES = 63;

export function faultUnlessFunction(value: unknown): string | undefined {
  return typeof value === 'function' ? undefined : `is ${shown(value)}, which is no function`;
}

export function faultInScope(value: unknown): string | undefined {
  return value === false || typeof value === 'function' ? undefined : `is ${shown(value)}, which is neither a function nor false`;
}

export function faultInName(value: unknown): string | undefined {
  if (typeof value !== 'string') return `is ${shown(value)}, which is no text`;
  if (value === '') return 'is empty';
  if (value.length > MAX_KEY_CHARACTERS) return `has ${value.length} characters`;
  return /[\p{Cc}\p{Cs}]/u.test(value) ? 'has control characters or is not well-formed Unicode' : undefined;
}

export function faultInKeyFormat(value: unknown): string | undefined {
  return value === 'any' || value === 'uuid' || value instanceof RegExp || typeof value === 'function' ? undefined : `is ${shown(value)}`;
}

export function faultInStoreIf(value: unknown): string | undefined {
  return value === 'all' || typeof value === 'function' ? undefined : `is ${shown(value)}`;
}

export function faultInKeyFrom(value: unknown): string | undefined {
  if (typeof value === 'function') return undefined;
  if (typeof value !== 'object' || value === null) return `is ${shown(value)}`;
  const [entry, ...others] = Object.entries(value) as [string, unknown][];
  if (entry === undefined || others.length > 0) return 'does not name exactly one source';
  const [source, name] = entry;
  switch (source) {
    case 'header':
      return faultInHeaderNames(name);
    case 'param':
      return typeof name === 'string' && name !== '' ? undefined : `has ${shown(name)}, which is no parameter's name`;
    case 'body':
      return typeof name === 'string' && !name.split('.').includes('') ? undefined : `has ${shown(name)}, which is no path in a body`;
    default:
      return `has ${shown(source)}, which is no source of keys`;
  }
}

export function faultInSecret(value: unknown): string | undefined {
  if (typeof value !== 'string' && !(value instanceof Uint8Array)) return 'is neither a text nor bytes';
  return Buffer.byteLength(value) < LEAST_SECRET_BYTES ? `is shorter than ${LEAST_SECRET_BYTES} bytes` : undefined;
}

const ENCRYPTION_OPTIONS: readonly string[] = ['keys', 'acceptPlain', 'writePlain'];

/** AES-256 has keys of 32 bytes. Of a text, 32 characters are the least that can be as hard to guess. */
const KEY_BYTES = 32;

/** Values are never shown: what stands in a key's place may be one. */
export function faultInEncryption(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return 'is not an object with keys';
  const { keys, acceptPlain, writePlain } = value as Record<string, unknown>;
  const unknown = Object.keys(value).find((name) => !ENCRYPTION_OPTIONS.includes(name));
  if (unknown !== undefined) return `has ${shown(unknown)}, which is none of ${ENCRYPTION_OPTIONS.join(', ')}`;
  if (!Array.isArray(keys) || keys.length === 0) return 'has no list of keys, or an empty one';
  for (const [index, key] of (keys as readonly unknown[]).entries()) {
    const fault = faultInSealingKey(key);
    if (fault !== undefined) return `has a key (number ${index + 1}) that ${fault}`;
  }
  for (const [name, flag] of Object.entries({ acceptPlain, writePlain })) {
    if (flag !== undefined && typeof flag !== 'boolean') return `has ${name}: ${shown(flag)}, which is not true or false`;
  }
  return writePlain === true && acceptPlain !== true
    ? 'has writePlain without acceptPlain, so that it would refuse what it writes'
    : undefined;
}

function faultInSealingKey(key: unknown): string | undefined {
  if (typeof key === 'string') return key.length < KEY_BYTES ? `is a text of less than ${KEY_BYTES} characters` : undefined;
  if (!(key instanceof Uint8Array)) return 'is neither a text nor bytes';
  return key.length === KEY_BYTES ? undefined : `has not ${KEY_BYTES} bytes`;
}

export function faultInSchema(value: unknown): string | undefined {
  if (typeof value !== 'string' || value === '' || value.includes('\0')) return `is ${shown(value)}, which is no schema's name`;
  return Buffer.byteLength(value) > MOST_SCHEMA_BYTES ? `has more than ${MOST_SCHEMA_BYTES} bytes` : undefined;
}

/**
 * By what it can do: the application may have loaded another copy of TypeORM than ours. What stands
 * there instead is not shown, since it may be a connection string with a password.
 */
export function faultInDataSource(value: unknown): string | undefined {
  if (!has(value, 'createQueryRunner') || !has(value, 'options')) return 'is no TypeORM DataSource';
  const type = has(value.options, 'type') ? value.options.type : undefined;
  return type === 'postgres' ? undefined : `is a DataSource of the type ${shown(type)}`;
}

export function faultInPool(value: unknown): string | undefined {
  return has(value, 'connect') && has(value, 'options') ? undefined : 'is no pg Pool';
}

function has<Name extends string>(value: unknown, name: Name): value is Record<Name, unknown> {
  return typeof value === 'object' && value !== null && name in value;
}

const ISOLATION_LEVELS: ReadonlySet<unknown> = new Set(['READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE']);

/** More would only make a crowd worse. */
const MOST_RETRIES = 10;

export function faultInAtomic(value: unknown): string | undefined {
  if (typeof value === 'boolean') return undefined;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return `is ${shown(value)}`;
  for (const [name, given] of Object.entries(value) as [string, unknown][]) {
    if (given === undefined) continue;
    if (name === 'isolation' && ISOLATION_LEVELS.has(given)) continue;
    if (name === 'retries' && Number.isInteger(given) && Number(given) >= 0 && Number(given) <= MOST_RETRIES) continue;
    return `has ${name}: ${shown(given)}`;
  }
  return undefined;
}
