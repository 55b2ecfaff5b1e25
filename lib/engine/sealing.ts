/**
 * What answers and step results are sealed with while they lie in the table: AES-256-GCM with a random IV
 * (NIST SP 800-38D), bound to the record they belong to and to what they are, so that nothing can be put in
 * another one's place. It knows keys and bytes, and neither where keys come from nor where bytes go.
 *
 * Every record has a key of its own, derived from yours and the record's identity. Random IVs of 96 bits
 * are good for 2^32 messages under one key, which a busy application reaches within months; a record has
 * one answer and a few steps.
 */
import { createCipheriv, createDecipheriv, createHmac, createSecretKey, hkdfSync, randomBytes } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { RecordUnreadable } from '../contract/errors.js';
import type { RecordedStep } from '../contract/record.js';
import type { RecordedHeaders, RecordedResponse } from '../contract/recorded-response.js';
import { framed, lengthOf } from './framing.js';

export interface SealingSettings {
  /** Each opens what it has sealed; the first one seals. None: nothing is sealed, and nothing sealed can be opened. */
  readonly keys: readonly KeyObject[];
  /** Whether what was never sealed is believed. */
  readonly acceptPlain: boolean;
  /** Whether nothing is sealed yet, although there are keys. */
  readonly writePlain: boolean;
}

export const WITHOUT_KEYS: SealingSettings = { keys: [], acceptPlain: true, writePlain: true };

/** The texts that tell the uses of a key apart. Stored formats: what they have sealed must be found and opened again. */
const DOMAIN = {
  text: 'nestjs-idempotency-pg sealing key',
  keyId: 'nestjs-idempotency-pg sealing key id',
  record: 'nestjs-idempotency-pg sealing key of a record',
  content: 'nestjs-idempotency-pg sealed content',
} as const;

/**
 * The first byte of all that is sealed. No JSON begins with a control character below the tab (RFC 8259,
 * section 2), so a plain step result can't be taken for a sealed one, nor by a version that knows none.
 */
const FORMAT = 1;
const FIRST_BYTE_OF_JSON = 0x09;

/** In the place of the headers of a sealed answer. No header can have this name (RFC 9110, section 5.1). */
const SEALED = ':sealed';

const CIPHER = 'aes-256-gcm';
const KEY_BYTES = 32;
const KEY_ID_BYTES = 8;
const IV_BYTES = 12;
const TAG_BYTES = 16;
const HEAD_BYTES = 1 + KEY_ID_BYTES + IV_BYTES;

/** A key as the application has it: 32 bytes are used as they are, a text is stretched over them (HKDF-SHA256, RFC 5869). */
export function sealingKey(written: string | Uint8Array): KeyObject {
  if (typeof written !== 'string') return createSecretKey(written);
  return createSecretKey(Buffer.from(hkdfSync('sha256', Buffer.from(written), Buffer.alloc(0), DOMAIN.text, KEY_BYTES)));
}

export class Sealing {
  readonly #keys: ReadonlyMap<string, KeyObject>;
  readonly #writer: readonly [id: string, key: KeyObject] | undefined;
  readonly #acceptPlain: boolean;

  constructor({ keys, acceptPlain, writePlain }: SealingSettings) {
    const named = keys.map((key) => [keyIdOf(key), key] as const);
    this.#keys = new Map(named);
    this.#writer = writePlain ? undefined : named[0];
    this.#acceptPlain = acceptPlain;
  }

  get hasKeys(): boolean {
    return this.#keys.size > 0;
  }

  /** @param id the record's */
  sealAnswer(id: string, answer: RecordedResponse): RecordedResponse {
    if (this.#writer === undefined) return answer;
    const headers = Buffer.from(JSON.stringify(answer.headers));
    const content = Buffer.concat([lengthOf(headers.length), headers, answer.body]);
    return { status: answer.status, headers: [[SEALED, String(FORMAT)]], body: seal(this.#writer, id, asAnswer(answer), content) };
  }

  /** @throws RecordUnreadable */
  openAnswer(id: string, answer: RecordedResponse): RecordedResponse {
    if (!answer.headers.some(([name]) => name === SEALED)) return this.#plain(answer);
    const content = this.#open(id, asAnswer(answer), answer.body);
    const bodyAt = lengthOf(0).length + content.readUInt32BE();
    const headers = JSON.parse(content.toString('utf8', lengthOf(0).length, bodyAt)) as RecordedHeaders;
    return { status: answer.status, headers, body: content.subarray(bodyAt) };
  }

  sealStep(id: string, { name, result }: RecordedStep): RecordedStep {
    return this.#writer === undefined ? { name, result } : { name, result: seal(this.#writer, id, asStep(name), result) };
  }

  /** @throws RecordUnreadable */
  openStep(id: string, step: RecordedStep): RecordedStep {
    const [first = FIRST_BYTE_OF_JSON] = step.result;
    if (first >= FIRST_BYTE_OF_JSON) return this.#plain(step);
    return { name: step.name, result: this.#open(id, asStep(step.name), step.result) };
  }

  #plain<Content>(content: Content): Content {
    if (this.#acceptPlain) return content;
    throw new RecordUnreadable({
      remedy:
        'The record is not encrypted, and encryption is on. If it is from before, set encryption.acceptPlain until its ttl is over; otherwise somebody has written to the table.',
    });
  }

  #open(id: string, kind: Buffer, sealed: Buffer): Buffer {
    if (!this.hasKeys)
      throw new RecordUnreadable({ remedy: 'The record is encrypted. Give the option encryption with the key it was sealed with.' });
    if (sealed[0] !== FORMAT || sealed.length < HEAD_BYTES + TAG_BYTES)
      throw new RecordUnreadable({ remedy: 'The record is encrypted in a form that this version of nestjs-idempotency-pg does not know.' });
    const key = this.#keys.get(sealed.toString('hex', 1, 1 + KEY_ID_BYTES));
    if (key === undefined)
      throw new RecordUnreadable({
        remedy: 'The key that the record was sealed with is not among encryption.keys. Keep old keys until the ttl is over.',
      });
    try {
      return open(key, id, kind, sealed);
    } catch {
      throw new RecordUnreadable({
        remedy: 'The record is not what was sealed under this key: it was changed, damaged, or put in the place of another one.',
      });
    }
  }
}

function keyIdOf(key: KeyObject): string {
  return createHmac('sha256', key).update(DOMAIN.keyId).digest().toString('hex', 0, KEY_ID_BYTES);
}

/** What it is, beside whose. The status is read without a key, and can't be changed without one. */
const asAnswer = ({ status }: RecordedResponse): Buffer => framed(['answer', String(status)]);
const asStep = (name: string): Buffer => framed(['step', name]);

function recordKey(key: KeyObject, id: string): Buffer {
  return createHmac('sha256', key)
    .update(framed([DOMAIN.record, id]))
    .digest();
}

function seal([keyId, key]: readonly [string, KeyObject], id: string, kind: Buffer, content: Buffer): Buffer {
  const iv = randomBytes(IV_BYTES);
  const head = Buffer.concat([Buffer.of(FORMAT), Buffer.from(keyId, 'hex'), iv]);
  const cipher = createCipheriv(CIPHER, recordKey(key, id), iv, { authTagLength: TAG_BYTES });
  cipher.setAAD(framed([DOMAIN.content, head, id, kind]));
  return Buffer.concat([head, cipher.update(content), cipher.final(), cipher.getAuthTag()]);
}

function open(key: KeyObject, id: string, kind: Buffer, sealed: Buffer): Buffer {
  const head = sealed.subarray(0, HEAD_BYTES);
  const decipher = createDecipheriv(CIPHER, recordKey(key, id), head.subarray(-IV_BYTES), { authTagLength: TAG_BYTES });
  decipher.setAAD(framed([DOMAIN.content, head, id, kind]));
  decipher.setAuthTag(sealed.subarray(-TAG_BYTES));
  return Buffer.concat([decipher.update(sealed.subarray(HEAD_BYTES, -TAG_BYTES)), decipher.final()]);
}
