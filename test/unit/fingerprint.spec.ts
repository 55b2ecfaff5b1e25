import { describe, expect, it } from '@jest/globals';
import { createHash, createSecretKey } from 'node:crypto';
import { fingerprintOf } from '../../lib/engine/fingerprint.js';
import { framed } from '../../lib/engine/framing.js';
import type { Content, FileDigest, FingerprintParts } from '../../lib/engine/fingerprint.js';

type WholeRequest = Extract<FingerprintParts, { of: 'request' }>;

const payment: WholeRequest = {
  of: 'request',
  method: 'POST',
  path: '/payments',
  query: 'b=2&a=1',
  contentType: 'application/json; charset=utf-8',
  content: { kind: 'json', value: { amount: 100, currency: 'EUR' } },
};
const file: FileDigest = { field: 'f', fileName: 'a.txt', mediaType: 'text/plain', size: 3, digest: Buffer.alloc(32, 7) };
const upload: WholeRequest = {
  ...payment,
  contentType: 'multipart/form-data; boundary=x',
  content: { kind: 'multipart', fields: { note: 'hi' }, files: [file] },
};
const document = {
  note: 'Grüße — “leise”\n\t\u0000\ud83d\ude00 \ud800',
  10: [1.5, -0, 1e21, true, null],
  9: { z: {}, a: [] },
  lines: Array.from({ length: 40 }, (_, n) => ({ sku: `SKU-${n}`, quantity: n * 1000, long: 'lang '.repeat(n), gift: n % 2 === 0 })),
};
const secret = createSecretKey(Buffer.from('0123456789abcdef0123456789abcdef'));

function hex(parts: FingerprintParts): string {
  return fingerprintOf(parts, undefined).toString('hex');
}

function withContent(content: Content): string {
  return hex({ ...payment, content });
}

describe('fingerprintOf', () => {
  // Records of other versions must go on matching: these values may never change. They were computed by another program.
  it.each<[string, FingerprintParts, string]>([
    ['a JSON request', payment, '5825f4bfd6565bfa27469a72981530428bd3cccba1e44f568fd3dbda9bfb6343'],
    [
      'a request without content',
      { ...payment, content: { kind: 'none' } },
      'a7819b14e959cee7ad57b0c0b2ee94f2dc285af1e5c17f29c13b3b7c60cdc632',
    ],
    ['bytes', { ...payment, content: { kind: 'bytes', bytes: 'abc' } }, 'e71ab73b7338818e8bc84a3ad9e9a44698cdff097e4ad0e49a9246347063a66e'],
    ['an upload', upload, 'c453d7e1c6afd0cddddd299771f08e7fafd962d0399e767bf7e61c6ea6f7dee4'],
    [
      'a choice of the user’s',
      { of: 'choice', method: 'POST', path: '/payments', value: { amount: 100 } },
      '96b1911653ffeca326320c8692d1eed5eda0179dad9472b210dbea0c8f1e2f2c',
    ],
    [
      'a choice that counts alone',
      { of: 'choice-alone', value: { amount: 100 } },
      'e2c5df964d3ee2a558dcef245fa1f7e847a8fab754437bab435f47e6db07ef04',
    ],
    ['a natural key', { of: 'key', key: 'abc' }, 'cfce6ed138ab735f2fcc6f85f4acbb2521871410cd08a4e0819c3581c604128f'],
  ])('matches what other versions stored for %s', (_, parts, digest) => {
    expect(hex(parts)).toBe(digest);
  });

  // So they were before a digest was laid out in one run of bytes: these may never change either.
  it.each<[string, Partial<WholeRequest>, string, string]>([
    [
      'a document',
      { content: { kind: 'json', value: document } },
      '16140291350d4e7728412be831f19a34e38f89ca9dc0441c6dafe00d3f9cee16',
      '8b679445c63df01a70140715a8bffbf7c4bbdc99e3346ba79272a34860defb9b',
    ],
    [
      'a large document',
      { content: { kind: 'json', value: { text: 'xä'.repeat(20_000) } } },
      '79de27233ecc4443fec78c9f2335da07af3b4bc2da1152ce79d1737c58b75935',
      '42a3b32c65007a980cf1e96459985a01907bd878fc027fb63b65353315fb80fc',
    ],
    [
      'bytes',
      { content: { kind: 'bytes', bytes: Buffer.from('ä'.repeat(100)) } },
      '525bd15a395fd9f8f51438385a4c20291e3512ed6277557d88f1bc4619547eb3',
      '7e8ee5e76a03386793261e08ae5334bee2bcf1633965a068940cd94fb805219a',
    ],
    [
      'many bytes',
      { content: { kind: 'bytes', bytes: Buffer.from('ä'.repeat(20_000)) } },
      '34f28a4e3bd72fff22e46b47b0be3d8031c3c119b6cb5cceb851cdca84a6d108',
      'c76bf8b4b94e499494fbd5aae5d8859bdd3d5b4adacfa065c1c9a02fc626970b',
    ],
  ])('is what it was for %s, with a secret too', (_, change, digest, withSecret) => {
    expect(hex({ ...payment, ...change })).toBe(digest);
    expect(fingerprintOf({ ...payment, ...change }, secret).toString('hex')).toBe(withSecret);
  });

  it('is what it was for a target that is not ASCII', () => {
    const contentType = 'text/plain; title="ä"';
    expect(hex({ ...payment, path: '/größe/ключ', query: 'ü=1&b=2', contentType, content: { kind: 'bytes', bytes: 'Grüße' } })).toBe(
      '68ce5ad5bf2c506c929d3fca7edb72a05baa66954cc054b2c22a0ed687e9c231',
    );
  });

  it.each([0, 1, 16_383, 16_384, 16_385, 100_000])('has the same format for a content of %i characters', (length) => {
    for (const key of ['x'.repeat(length), 'ä'.repeat(length)]) {
      const digest = createHash('sha256')
        .update(framed(['1', 'key', key]))
        .digest('hex');
      expect(hex({ of: 'key', key })).toBe(digest);
    }
  });

  it('is an HMAC where there is a secret', () => {
    expect(fingerprintOf(payment, secret).toString('hex')).toBe('95c33b12ddb1feba93f93861102b5baf096eb947633e473cdaa53cfd90b63de6');
  });

  it('has 32 bytes', () => {
    expect(fingerprintOf(payment, undefined)).toHaveLength(32);
    expect(fingerprintOf(payment, secret)).toHaveLength(32);
  });

  it.each<[string, Partial<WholeRequest>]>([
    ['members in another order', { content: { kind: 'json', value: { currency: 'EUR', amount: 100 } } }],
    ['query parameters in another order', { query: 'a=1&b=2' }],
    ['empty pairs in the query', { query: '&a=1&&b=2&' }],
    ['a media type in another case', { contentType: 'Application/JSON; Charset=UTF-8' }],
    ['a quoted parameter', { contentType: 'application/json;charset="utf-8"' }],
    ['white space in the media type', { contentType: ' application/json ;  charset=utf-8 ' }],
  ])('is the same for %s', (_, change) => {
    expect(hex({ ...payment, ...change })).toBe(hex(payment));
  });

  it.each<[string, Partial<WholeRequest>]>([
    ['method', { method: 'PUT' }],
    ['path', { path: '/payments/7' }],
    ['query', { query: 'b=2&a=2' }],
    ['query parameter', { query: 'b=2' }],
    ['spelling of the query', { query: 'b=2&a=%31' }],
    ['media type', { contentType: 'application/merge-patch+json; charset=utf-8' }],
    ['charset', { contentType: 'application/json; charset=utf-16' }],
    ['value in the body', { content: { kind: 'json', value: { amount: 101, currency: 'EUR' } } }],
    ['type of a value', { content: { kind: 'json', value: { amount: '100', currency: 'EUR' } } }],
    ['kind of content', { content: { kind: 'bytes', bytes: '{"amount":100,"currency":"EUR"}' } }],
  ])('is another one for another %s', (_, change) => {
    expect(hex({ ...payment, ...change })).not.toBe(hex(payment));
  });

  it('keeps the order of a repeated query parameter, in which it may mean something', () => {
    const one = hex({ ...payment, query: 'id=1&x=0&id=2' });
    expect(hex({ ...payment, query: 'x=0&id=1&id=2' })).toBe(one);
    expect(hex({ ...payment, query: 'x=0&id=2&id=1' })).not.toBe(one);
  });

  it('keeps the case of parameters other than charset', () => {
    const typed = (contentType: string): string => hex({ ...payment, contentType });
    expect(typed('text/plain; profile=A; charset=UTF-8')).toBe(typed('text/plain; CHARSET=utf-8; Profile="A"'));
    expect(typed('text/plain; profile=A')).not.toBe(typed('text/plain; profile=a'));
    expect(typed('text/plain; a="x;b=y"')).not.toBe(typed('text/plain; a=x; b=y'));
  });

  it('reads a hostile Content-Type to its end', () => {
    const hostile = `a/b${';a="'.repeat(20_000)}${';'.repeat(20_000)}${'; a='.repeat(5_000)}`;
    expect(hex({ ...payment, contentType: hostile })).toHaveLength(64);
  });

  it('does not care whether bytes came as a text or a buffer', () => {
    expect(withContent({ kind: 'bytes', bytes: 'Grüße' })).toBe(withContent({ kind: 'bytes', bytes: Buffer.from('Grüße') }));
  });

  it('tells apart all ways of sending nothing', () => {
    const nothings: Content[] = [
      { kind: 'none' },
      { kind: 'bytes', bytes: '' },
      { kind: 'json', value: null },
      { kind: 'json', value: {} },
      { kind: 'json', value: '' },
      { kind: 'multipart', fields: undefined, files: [] },
      { kind: 'multipart', fields: {}, files: [] },
    ];
    expect(new Set(nothings.map(withContent)).size).toBe(nothings.length);
  });

  it('does not mistake a moved border between two parts for the same request', () => {
    const one = hex({ ...payment, path: '/a', query: 'bc' });
    expect(hex({ ...payment, path: '/ab', query: 'c' })).not.toBe(one);
    expect(hex({ ...payment, method: 'POST/', path: 'a', query: 'bc' })).not.toBe(one);
  });

  describe('of an upload', () => {
    it('does not depend on the boundary, which is new in every attempt', () => {
      expect(hex({ ...upload, contentType: 'multipart/form-data; BOUNDARY="----y"' })).toBe(hex(upload));
      expect(hex({ ...payment, contentType: 'text/x; boundary=a' })).not.toBe(hex({ ...payment, contentType: 'text/x; boundary=b' }));
    });

    it.each<[string, Partial<FileDigest>]>([
      ['field', { field: 'g' }],
      ['file name', { fileName: 'b.txt' }],
      ['media type', { mediaType: 'text/html' }],
      ['size', { size: 4 }],
      ['content', { digest: Buffer.alloc(32, 8) }],
    ])('is another one for another %s', (_, change) => {
      expect(withContent({ kind: 'multipart', fields: {}, files: [{ ...file, ...change }] })).not.toBe(
        withContent({ kind: 'multipart', fields: {}, files: [file] }),
      );
    });

    it('is another one for other fields, a missing file or a second one', () => {
      const digests = [
        hex(upload),
        withContent({ kind: 'multipart', fields: { note: 'ho' }, files: [file] }),
        withContent({ kind: 'multipart', fields: { note: 'hi' }, files: [] }),
        withContent({ kind: 'multipart', fields: { note: 'hi' }, files: [file, file] }),
      ];
      expect(new Set(digests).size).toBe(digests.length);
    });

    it('does not depend on which field comes first, but on the order of files in one field', () => {
      const [a1, a2, b] = [
        { ...file, field: 'a' },
        { ...file, field: 'a', fileName: 'second' },
        { ...file, field: 'b' },
      ];
      const digest = (files: readonly FileDigest[]): string => withContent({ kind: 'multipart', fields: {}, files });
      expect(digest([b, a1, a2])).toBe(digest([a1, b, a2]));
      expect(digest([a2, a1, b])).not.toBe(digest([a1, a2, b]));
    });
  });

  it('of a choice tells undefined from null and from an empty text', () => {
    const choices = [undefined, null, ''].map((value) => hex({ of: 'choice', method: 'POST', path: '/', value }));
    expect(new Set(choices).size).toBe(3);
  });

  it('of a choice depends on method and path, and alone it does not', () => {
    const choice = { of: 'choice', method: 'POST', path: '/a', value: 1 } as const;
    expect(hex({ ...choice, path: '/b' })).not.toBe(hex(choice));
    expect(hex({ ...choice, method: 'PUT' })).not.toBe(hex(choice));
    expect(hex({ of: 'choice-alone', value: 1 })).not.toBe(hex({ of: 'key', key: '1' }));
  });
});
