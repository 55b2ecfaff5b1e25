/** What comes and goes with every request, found by its id, or all at once. */
import { createHash, randomUUID } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import { ById } from '../../lib/contract/by-id.js';
import { Crowd, type Member } from '../../lib/store/crowd.js';

/** Repeatable, since what goes wrong once must go wrong again. */
function chances(seed: string): (below: number) => number {
  let drawn = 0;
  return (below) =>
    createHash('sha256')
      .update(`${seed} ${(drawn += 1)}`)
      .digest()
      .readUInt32BE() % below;
}

describe('a table by id', () => {
  /** Ids that share few places, so that there are several in one. */
  const ids = Array.from({ length: 40 }, (_, i) => `${String(i).padStart(8, '0')}-0000-0000-0000-00000000000${(i % 4).toString(16)}`);

  it('does what a Map does, whatever comes and goes', () => {
    const chance = chances('by id');
    const [table, map] = [new ById<number>(), new Map<string, number>()];
    for (let step = 0; step < 5_000; step++) {
      const id = ids[chance(ids.length)]!;
      if (chance(2) === 0) {
        table.set(id, step);
        map.set(id, step);
      } else {
        expect(table.delete(id)).toBe(map.delete(id));
      }
      expect([table.get(id), table.has(id), table.size]).toEqual([map.get(id), map.has(id), map.size]);
      if (step % 100 === 0) expect(new Set(table.all())).toEqual(new Set(map.values()));
    }
    expect(ids.map((id) => table.get(id))).toEqual(ids.map((id) => map.get(id)));
  });

  it('takes any text for an id', () => {
    const table = new ById<string>();
    const texts = ['', 'a', 'ab', '0', randomUUID(), 'ключ', '🔑', 'a key'];
    for (const text of texts) table.set(text, text);
    expect(texts.map((text) => table.get(text))).toEqual(texts);
  });

  it('goes on to the others when one is deleted on the way', () => {
    const table = new ById<string>();
    for (const id of ids) table.set(id, id);
    const met: string[] = [];
    for (const id of table.all()) {
      met.push(id);
      table.delete(id);
    }
    expect([met.toSorted(), table.size]).toEqual([ids.toSorted(), 0]);
  });

  it('is empty when it is cleared', () => {
    const table = new ById<number>();
    table.set(ids[0]!, 1);
    table.clear();
    expect([table.size, table.get(ids[0]!), table.all()]).toEqual([0, undefined, []]);
    table.set(ids[0]!, 2);
    expect(table.size).toBe(1);
  });
});

describe('a crowd', () => {
  it('has those who have come and not gone, whoever they are', () => {
    const chance = chances('crowd');
    const members = Array.from({ length: 20 }, (): Member => ({ place: 0 }));
    const [crowd, set] = [new Crowd<Member>(), new Set<Member>()];
    for (let step = 0; step < 2_000; step++) {
      const member = members[chance(members.length)]!;
      if (set.has(member)) {
        crowd.remove(member);
        set.delete(member);
      } else {
        crowd.add(member);
        set.add(member);
      }
      expect(new Set(crowd.all())).toEqual(set);
      expect(crowd.all()).toHaveLength(set.size);
    }
  });

  it('is asked in vain to remove whoever is not in it', () => {
    const [crowd, one, other] = [new Crowd<Member>(), { place: 0 }, { place: 0 }];
    crowd.add(one);
    crowd.remove(other);
    expect(crowd.all()).toEqual([one]);
    crowd.remove(one);
    crowd.remove(one);
    expect(crowd.all()).toEqual([]);
  });
});
