/**
 * Stands in front of a response's own members and steps aside without a trace. What stood there
 * before, be it Node's or a middleware's, is what is called underneath.
 *
 * What stands there are the same few functions for all responses of a kind; by the response they are
 * called on they know whose cover it is. On Node's own kind they are put on the response itself: a
 * handful of members, taken off in reverse order, cost next to nothing. A framework that gives its
 * responses a prototype of its own, as Express does, makes each member dear; there they stand between
 * the two, as one veil. Only what a middleware has put on the response itself gets a function of its own.
 */
import { ServerResponse } from 'node:http';

export type Method = (...args: never[]) => unknown;

/** In the order in which they are put on a response. */
const VEILED = [
  'writeHead',
  'flushHeaders',
  'addTrailers',
  'write',
  'end',
  'destroy',
  'emit',
  'setHeader',
  'appendHeader',
  'removeHeader',
] as const;

type VeiledName = (typeof VEILED)[number];

/** What stands in front of the members of these names, on behalf of any `whose`: made once, for all responses. */
export type Fronts<Whose> = Readonly<Partial<Record<VeiledName, (whose: Whose, args: readonly unknown[]) => unknown>>>;

interface Covered {
  readonly name: string;
  readonly front: Method;
  /** What is on the response on its behalf; nothing where the veil lies beneath the response. */
  readonly placed: Method | undefined;
  readonly below: Method;
  /** Whether the response itself had it (a middleware's), or inherited it from Node's class. */
  readonly own: boolean;
  lifted: boolean;
}

/** What of a response can be shown as it is not. */
export type Shown = 'headersSent' | 'writableEnded' | 'closed';

const SHOWN = ['headersSent', 'writableEnded', 'closed'] as const satisfies readonly Shown[];

/** Constants, since each property is defined for nearly every request. */
const SHOWN_AS = { true: { configurable: true, value: true }, false: { configurable: true, value: false } } as const;

/**
 * By this the veil knows whose it is. A response between which and its kind a veil has lain keeps it:
 * who has stepped in front of the veil may call it for ever.
 */
const COVER = Symbol('cover');

interface Veiled {
  [COVER]?: ResponseCover;
}

type Members = Record<string, unknown>;

export class ResponseCover {
  readonly #members: Members;
  readonly #base: Members;
  /** None where another one of us has the response already: the veil can serve only one. */
  readonly #veil: Members | undefined;
  /** Whether the veil lies between the response and its kind, or its functions are put on the response. */
  readonly #between: boolean;
  #fronts: Fronts<unknown> | undefined;
  #whose: unknown;
  /** Of `#fronts`, where not all of them are. */
  #liftedFronts: string[] | undefined;
  #allLifted = false;
  /** All others: a handful, which a search finds sooner than a map. */
  #covered: Covered[] | undefined;
  #shown: { [Name in Shown]?: boolean | undefined } | undefined;
  /** Of `#covered` and `#shown`, in the order in which they came. */
  #names: string[] | undefined;

  constructor(private readonly response: ServerResponse) {
    this.#members = response as unknown as Members;
    this.#base = Object.getPrototypeOf(response) as Members;
    this.#between = !Object.is(this.#base, ServerResponse.prototype);
    if (COVER in response) return;
    (response as Veiled)[COVER] = this;
    this.#veil = veilOver(this.#base);
    if (this.#between) Object.setPrototypeOf(response, this.#veil);
  }

  /** Puts all of them in front, once. */
  stand<Whose>(fronts: Fronts<Whose>, whose: Whose): void {
    this.#fronts = fronts as Fronts<unknown>;
    this.#whose = whose;
    for (const name of VEILED) {
      const front = fronts[name];
      if (front === undefined) continue;
      if (this.#veil === undefined || Object.hasOwn(this.response, name)) this.put(name, (...args) => front(whose, args));
      else if (!this.#between) this.#members[name] = this.#veil[name];
    }
  }

  put(name: string, front: Method): void {
    const own = Object.hasOwn(this.response, name);
    const veil = own || !isVeiled(name) ? undefined : this.#veil;
    const placed = veil === undefined ? front : this.#between ? undefined : (veil[name] as Method);
    const below = (veil === undefined ? this.#members : this.#base)[name] as Method;
    (this.#covered ??= []).push({ name, front, placed, below, own, lifted: false });
    this.#note(name);
    if (placed !== undefined) this.#members[name] = placed;
  }

  /** Shows a property as it is not. */
  show(name: Shown, value: boolean): void {
    (this.#shown ??= {})[name] = value;
    this.#note(name);
    if (this.#veil === undefined || !this.#between || Object.hasOwn(this.response, name)) {
      Object.defineProperty(this.response, name, SHOWN_AS[`${value}`]);
    }
  }

  /** Calls what is underneath, whether the cover still stands or not. */
  below(name: string, args: readonly unknown[]): unknown {
    const covered = this.#covering(name);
    const isFronted = covered === undefined && this.#fronts !== undefined && name in this.#fronts;
    const below = covered?.below ?? (isFronted ? this.#base : this.#members)[name];
    return Reflect.apply(below as Method, this.response, args);
  }

  /** Uncovers the named members; all of them, without a list. The last goes first, which leaves the response as quick as it was. */
  lift(names?: readonly string[]): void {
    if (this.#names !== undefined) {
      for (let i = this.#names.length - 1; i >= 0; i -= 1) {
        const name = this.#names[i];
        if (name !== undefined && (names === undefined || names.includes(name))) this.#liftOne(name);
      }
    }
    this.#liftFronts(names);
    if (names === undefined) this.#liftVeil();
  }

  /**
   * What the veil does about a call, on behalf of whoever stands in front.
   *
   * @internal
   */
  veiled(name: VeiledName, on: unknown, args: readonly unknown[]): unknown {
    const covered = this.#covering(name);
    if (covered === undefined) {
      const front = this.#allLifted || this.#liftedFronts?.includes(name) ? undefined : this.#fronts?.[name];
      if (front !== undefined) return front(this.#whose, args);
    } else if (!covered.lifted && covered.placed !== covered.front) {
      return Reflect.apply(covered.front, on, args);
    }
    return Reflect.apply(this.#base[name] as Method, on, args);
  }

  /** @internal */
  shownAs(name: Shown): boolean | undefined {
    return this.#shown?.[name];
  }

  #note(name: string): void {
    if (this.#names === undefined) this.#names = [name];
    else this.#names.push(name);
  }

  #covering(name: string): Covered | undefined {
    if (this.#covered === undefined) return undefined;
    for (let i = this.#covered.length - 1; i >= 0; i -= 1) if (this.#covered[i]?.name === name) return this.#covered[i];
    return undefined;
  }

  #liftOne(name: string): void {
    if (this.#shown?.[name as Shown] !== undefined) {
      this.#shown[name as Shown] = undefined;
      if (Object.hasOwn(this.response, name)) Reflect.deleteProperty(this.response, name);
      return;
    }
    const covered = this.#covering(name);
    if (covered === undefined || covered.lifted) return;
    covered.lifted = true;
    // Somebody who has stepped in front of us since then calls us, and we pass the call on.
    if (covered.placed === undefined || !Object.hasOwn(this.response, name) || this.#members[name] !== covered.placed) return;
    if (covered.own) this.#members[name] = covered.below;
    else Reflect.deleteProperty(this.response, name);
  }

  #liftFronts(names: readonly string[] | undefined): void {
    if (this.#fronts === undefined || this.#allLifted) return;
    if (names === undefined) this.#allLifted = true;
    for (let i = VEILED.length - 1; i >= 0; i -= 1) {
      const name = VEILED[i];
      if (name === undefined || !(name in this.#fronts) || (names !== undefined && !names.includes(name))) continue;
      if (names !== undefined) (this.#liftedFronts ??= []).push(name);
      const isOurs = this.#members[name] === this.#veil?.[name] && Object.hasOwn(this.response, name);
      if (isOurs) Reflect.deleteProperty(this.response, name);
    }
  }

  #liftVeil(): void {
    if (this.#veil === undefined) return;
    if (!this.#between) {
      if ((this.response as Veiled)[COVER] === this) Reflect.deleteProperty(this.response, COVER);
    } else if (Object.getPrototypeOf(this.response) === this.#veil) {
      // Somebody who has changed the prototype since then keeps the veil, which passes everything on.
      Object.setPrototypeOf(this.response, this.#base);
    }
  }
}

/** A cache of what a prototype alone decides. */
const veils = new WeakMap<object, Members>();

function veilOver(base: Members): Members {
  let veil = veils.get(base);
  if (veil === undefined) veils.set(base, (veil = makeVeil(base)));
  return veil;
}

function makeVeil(base: Members): Members {
  const veil = Object.create(base) as Members;
  for (const name of VEILED) {
    veil[name] = function (this: Veiled, ...args: unknown[]): unknown {
      const cover = this[COVER];
      return cover === undefined ? Reflect.apply(base[name] as Method, this, args) : cover.veiled(name, this, args);
    };
  }
  for (const name of SHOWN) {
    const get = function (this: Veiled): unknown {
      return this[COVER]?.shownAs(name) ?? Reflect.get(base, name, this);
    };
    Object.defineProperty(veil, name, { configurable: true, get });
  }
  return veil;
}

function isVeiled(name: string): boolean {
  return (VEILED as readonly string[]).includes(name);
}
