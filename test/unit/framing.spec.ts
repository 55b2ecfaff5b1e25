import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { framed, lengthOf } from '../../lib/engine/framing.js';

describe('framed', () => {
  // Records of other versions must be found: this value may never change.
  it('lays out what other versions laid out', () => {
    const bytes = framed(['', 'abc', 'Größe', new Uint8Array([0, 255]), '\ud83d']);
    expect(bytes.toString('hex')).toBe('0000000000000003616263000000074772c3b6c39f650000000200ff00000003efbfbd');
  });

  it.each([255, 256, 65_535, 65_536, 16_777_216])('writes a length of %i in four bytes, the highest first', (length) => {
    const head = Buffer.alloc(4);
    head.writeUInt32BE(length);
    expect(framed(['a'.repeat(length)]).subarray(0, 4)).toEqual(head);
  });

  const part = fc.oneof(fc.string(), fc.string({ unit: 'binary' }), fc.constant('half a pair \ud83d'), fc.uint8Array());

  it('puts the length in bytes in front of every part', () => {
    fc.assert(
      fc.property(fc.array(part), (parts) => {
        const bytes = parts.map((each) => (typeof each === 'string' ? Buffer.from(each, 'utf8') : each));
        expect(framed(parts)).toEqual(Buffer.concat(bytes.flatMap((each) => [lengthOf(each.length), each])));
      }),
    );
  });
});
