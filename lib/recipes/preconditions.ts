/**
 * Entity tags and the conditions that name them (RFC 9110, sections 8.8.3 and 13.1): how a version
 * becomes a tag, how a field of tags is read, and what it means for a version. It knows no request
 * and decides on no status.
 */
import type { VersionCondition } from '../contract/version-condition.js';

/** What can be a strong entity tag. */
export type Version = number | string | bigint;

/** Without its quotes. A weak one says only that two contents are as good as each other. */
export interface EntityTag {
  readonly opaque: string;
  readonly weak: boolean;
}

export type Precondition =
  | { readonly kind: 'absent' }
  | { readonly kind: 'malformed' }
  /** `*`: whichever there is, as long as there is one. */
  | { readonly kind: 'any' }
  | { readonly kind: 'tags'; readonly tags: readonly EntityTag[] };

/** From here to the next comma: a tag, or nothing. Lists may have empty elements (RFC 9110, section 5.6.1.2). */
const ELEMENT = /[ \t]*(?:(W\/)?"([\x21\x23-\x7e\x80-\xff]*)"[ \t]*)?(?:,|$)/y;

const ANY = /^[ \t]*\*[ \t]*$/;

/** @param lines the field's lines as they came, which count as one list */
export function readPrecondition(lines: readonly string[]): Precondition {
  if (lines.length === 0) return { kind: 'absent' };
  const field = lines.join(',');
  if (ANY.test(field)) return { kind: 'any' };
  const tags: EntityTag[] = [];
  const element = new RegExp(ELEMENT);
  while (element.lastIndex < field.length) {
    const found = element.exec(field);
    if (found === null) return { kind: 'malformed' };
    const [, weak, opaque] = found;
    if (opaque !== undefined) tags.push({ opaque, weak: weak !== undefined });
  }
  return { kind: 'tags', tags };
}

/**
 * The strong entity tag of a version, with its quotes. Of what section 8.8.3 allows only ASCII is
 * taken: clients differ in how they read the rest.
 *
 * @throws TypeError for what can't be one
 */
export function entityTagOf(version: Version): string {
  const text = isVersion(version) ? String(version) : '';
  if (!/^[\x21\x23-\x7e]+$/.test(text)) {
    throw new TypeError(
      'A version is a number, or a text of visible ASCII characters without double quotes. Give a counter, or a digest in hex.',
    );
  }
  return `"${text}"`;
}

function isVersion(version: unknown): version is Version {
  return typeof version === 'number' ? Number.isFinite(version) : typeof version === 'string' || typeof version === 'bigint';
}

/** Whether the condition can be true of any version: `If-Match` compares strongly, so that weak tags never match (section 13.1.1). */
export function canMatchStrongly(precondition: Precondition): boolean {
  return precondition.kind !== 'tags' || precondition.tags.some(({ weak }) => !weak);
}

/** Whether a client that has these has what `entityTag` stands for: the weak comparison of `If-None-Match` (section 13.1.2). */
export function matchesWeakly(precondition: Precondition, entityTag: string): boolean {
  if (precondition.kind !== 'tags') return precondition.kind === 'any';
  const current = readPrecondition([entityTag]);
  return current.kind === 'tags' && precondition.tags.some(({ opaque }) => current.tags.some((tag) => tag.opaque === opaque));
}

/** The versions that tags of `entityTagOf(number)` stand for. A tag that is none of those matches no version. */
export function versionsOf(tags: readonly EntityTag[]): VersionCondition {
  const versions = tags.filter(({ weak }) => !weak).flatMap(({ opaque }) => numberOf(opaque) ?? []);
  const [first, ...more] = versions;
  return first !== undefined && more.length === 0 ? first : versions;
}

function numberOf(opaque: string): number | undefined {
  const number = Number(opaque);
  return Number.isSafeInteger(number) && String(number) === opaque ? number : undefined;
}
