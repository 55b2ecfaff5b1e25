/** Gathers what is wrong with the options, so that one start of the application shows all of it. */

export interface Fault {
  /** The option's name as it is written, such as `reaper.every`. */
  readonly option: string;
  /** What is wrong, as the end of a sentence that begins with the option. Never a secret's value. */
  readonly fault: string;
  /** What to do about it, as a sentence. */
  readonly remedy: string;
  /** `Controller.method`, where it is one route's. */
  readonly where?: string;
}

/** The application does not start with these options. It has no HTTP status: nobody is being answered yet. */
export class IdempotencyOptionsError extends Error {
  constructor(readonly faults: readonly Fault[]) {
    super(`nestjs-idempotency-pg cannot start with these options:\n${grouped(faults).map(worded).join('\n')}`);
    this.name = 'IdempotencyOptionsError';
  }
}

export class Faults {
  readonly #found: Fault[] = [];

  add(fault: Fault): void {
    this.#found.push(fault);
  }

  /** @throws IdempotencyOptionsError with all of them, if there is any */
  throwIfAny(): void {
    if (this.#found.length > 0) throw new IdempotencyOptionsError([...this.#found]);
  }
}

interface Group extends Fault {
  readonly places: string[];
}

/** A fault in a controller's options shows at each of its handlers; it is told once. */
function grouped(faults: readonly Fault[]): readonly Group[] {
  const groups = new Map<string, Group>();
  for (const fault of faults) {
    const same = JSON.stringify([fault.option, fault.fault, fault.remedy]);
    const group = groups.get(same) ?? { ...fault, places: [] };
    if (fault.where !== undefined && !group.places.includes(fault.where)) group.places.push(fault.where);
    groups.set(same, group);
  }
  return [...groups.values()];
}

function worded({ option, fault, remedy, places }: Group): string {
  const at = places.length === 0 ? '' : ` (at ${places.join(', ')})`;
  return `- ${option}${at} ${fault}. ${remedy}`;
}

/** A value for a message: short, and of objects the kind only, since a connection's settings may have a password. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return value.length <= 60 ? `'${value}'` : `'${value.slice(0, 60)}…'`;
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'object' && value !== null) return 'an object';
  return String(value);
}
